// node-zookeeper-client: a session of work. The first argument is the servers.
const assert = require("assert");
const zookeeper = require("node-zookeeper-client");

const client = zookeeper.createClient(process.argv[2], { sessionTimeout: 10000, retries: 2 });
const call = (name, ...given) =>
  new Promise((resolve, reject) =>
    client[name](...given, (error, ...answer) => (error ? reject(error) : resolve(answer))),
  );
const fails = async (promise, code) => {
  const error = await promise.then(
    () => null,
    (error) => error,
  );
  assert.strictEqual(error && error.getCode(), code);
};

client.once("connected", async () => {
  try {
    const { CreateMode, Exception, Event, ACL, Permission, Id } = zookeeper;
    await call("create", "/node", Buffer.from("one"));
    let heard;
    const event = new Promise((resolve) => (heard = resolve));
    const [data, stat] = await call("getData", "/node", heard);
    assert.strictEqual(data.toString(), "one");
    assert.strictEqual(stat.version, 0);
    assert.strictEqual((await call("setData", "/node", Buffer.from("two"), 0))[0].version, 1);
    assert.strictEqual((await event).getType(), Event.NODE_DATA_CHANGED);
    await fails(call("setData", "/node", Buffer.from("three"), 0), Exception.BAD_VERSION);

    const [first] = await call("create", "/node/job-", CreateMode.EPHEMERAL_SEQUENTIAL);
    assert.strictEqual(first, "/node/job-0000000000");
    const [children] = await call("getChildren", "/node");
    assert.deepStrictEqual(children, ["job-0000000000"]);
    await fails(call("remove", "/node", -1), Exception.NOT_EMPTY);

    const transaction = client.transaction();
    transaction.check("/node", 1).create("/node/a").create("/node/b").remove("/node/a", -1);
    assert.strictEqual((await new Promise((resolve, reject) =>
      transaction.commit((error, results) => (error ? reject(error) : resolve(results))))).length, 4);
    assert.strictEqual((await call("exists", "/node/a"))[0], null);

    await call("setACL", "/node/b", [new ACL(Permission.READ, new Id("world", "anyone"))], -1);
    await fails(call("setData", "/node/b", Buffer.from("x"), -1), Exception.NO_AUTH);
    await call("mkdirp", "/node/deep/er/still");
    console.log("node-zookeeper-client: done");
    client.close();
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
});
client.connect();
