import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.retry.ExponentialBackoffRetry;

/** Curator's recipes: locks, a leader latch, a counter, a semaphore, a cache. The argument is the servers. */
public class Recipes {
    private static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, 10000, 5000, new ExponentialBackoffRetry(100, 5));
        client.start();
        check(client.blockUntilConnected(10, TimeUnit.SECONDS), "connects");
        return client;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException("not so: " + what);
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        for (int index = 0; index < 4; index++) {
            clients.add(connect(arguments[0]));
        }

        AtomicInteger inside = new AtomicInteger();
        AtomicInteger rounds = new AtomicInteger();
        ConcurrentLinkedQueue<Throwable> failures = new ConcurrentLinkedQueue<>();
        List<Thread> threads = new ArrayList<>();
        for (CuratorFramework client : clients) {
            Thread thread = new Thread(() -> {
                try {
                    InterProcessMutex mutex = new InterProcessMutex(client, "/curator/lock");
                    for (int round = 0; round < 25; round++) {
                        check(mutex.acquire(30, TimeUnit.SECONDS), "the lock is taken");
                        check(inside.incrementAndGet() == 1, "one holder");
                        rounds.incrementAndGet();
                        inside.decrementAndGet();
                        mutex.release();
                    }
                } catch (Throwable failure) {
                    failures.add(failure);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        check(failures.isEmpty(), "no failure but " + failures);
        check(rounds.get() == 100, "all rounds");

        List<LeaderLatch> latches = new ArrayList<>();
        for (CuratorFramework client : clients) {
            LeaderLatch latch = new LeaderLatch(client, "/curator/leader");
            latch.start();
            latches.add(latch);
        }
        for (int left = latches.size(); left > 0; left--) {
            LeaderLatch leader = null;
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (leader == null && System.nanoTime() < end) {
                for (LeaderLatch latch : latches) {
                    leader = latch.hasLeadership() ? latch : leader;
                }
                Thread.sleep(5);
            }
            check(leader != null, "somebody leads");
            leader.close();
            latches.remove(leader);
        }

        for (CuratorFramework client : clients) {
            DistributedAtomicLong counter = new DistributedAtomicLong(client, "/curator/counter", new ExponentialBackoffRetry(10, 10));
            for (int round = 0; round < 10; round++) {
                check(counter.increment().succeeded(), "the counter counts");
            }
        }
        // Asked of the last that wrote: another's member may not have applied the end yet.
        check(new DistributedAtomicLong(clients.get(3), "/curator/counter", new ExponentialBackoffRetry(10, 10)).get().postValue() == 40, "the counter is exact");

        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(clients.get(0), "/curator/semaphore", 2);
        var leases = semaphore.acquire(2, 10, TimeUnit.SECONDS);
        check(leases != null, "two leases");
        check(new InterProcessSemaphoreV2(clients.get(1), "/curator/semaphore", 2).acquire(200, TimeUnit.MILLISECONDS) == null, "no third");
        semaphore.returnAll(leases);

        CountDownLatch seen = new CountDownLatch(30);
        CuratorCache cache = CuratorCache.build(clients.get(0), "/curator/cache");
        cache.listenable().addListener(CuratorCacheListener.builder().forCreates(node -> seen.countDown()).build());
        cache.start();
        clients.get(1).create().forPath("/curator/cache");
        for (int index = 0; index < 29; index++) {
            clients.get(1).create().forPath("/curator/cache/" + index, new byte[] {(byte) index});
        }
        check(seen.await(30, TimeUnit.SECONDS), "the cache hears of all");
        cache.close();
        clients.get(1).delete().deletingChildrenIfNeeded().forPath("/curator");
        for (CuratorFramework client : clients) {
            client.close();
        }
        System.out.println("Curator: done");
    }
}
