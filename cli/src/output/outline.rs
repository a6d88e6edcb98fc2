//! A tree as lines that lead from parents to children.

/// One node and those below it.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// The line itself, coloured already.
    pub label: String,
    pub children: Vec<Outline>,
}

impl Outline {
    pub fn render(&self) -> String {
        let mut lines = format!("{}\n", self.label);
        self.render_children("", &mut lines);
        lines
    }

    fn render_children(&self, indent: &str, lines: &mut String) {
        for (index, child) in self.children.iter().enumerate() {
            let is_last = index + 1 == self.children.len();
            let (branch, below) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            lines.push_str(&format!("{indent}{branch}{}\n", child.label));
            child.render_children(&format!("{indent}{below}"), lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_lead_to_children() {
        let leaf = |label: &str| Outline { label: label.into(), children: Vec::new() };
        let inner = Outline { label: "a".into(), children: vec![leaf("x"), leaf("y")] };
        let root = Outline { label: "/".into(), children: vec![inner, leaf("b")] };
        assert_eq!(root.render(), "/\n├── a\n│   ├── x\n│   └── y\n└── b\n");
    }
}
