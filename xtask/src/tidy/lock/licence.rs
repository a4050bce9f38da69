//! SPDX licence expressions, as far as manifests use them: `OR`, `AND`, `WITH`, parentheses, and the
//! older `/` for `OR`. Not a validator: what it cannot read is not allowed.

/// True if the licences in `allowed` are enough to use something under `expression`.
pub(super) fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut reader = Reader {
        words: spaced.split_whitespace().collect(),
        at: 0,
        allowed,
    };
    let enough = reader.either();
    enough && reader.at == reader.words.len()
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a [&'a str],
}

impl<'a> Reader<'a> {
    /// `both (OR both)*`; every branch is read, so that the rest is where it should be.
    fn either(&mut self) -> bool {
        let mut enough = self.both();
        while self.take("OR") {
            enough |= self.both();
        }
        enough
    }

    fn both(&mut self) -> bool {
        let mut enough = self.one();
        while self.take("AND") {
            enough &= self.one();
        }
        enough
    }

    /// `( either )`, or a licence with or without an exception.
    fn one(&mut self) -> bool {
        if self.take("(") {
            let enough = self.either();
            return self.take(")") && enough;
        }
        let Some(licence) = self.next() else {
            return false;
        };
        if !self.take("WITH") {
            return self.allowed.contains(&licence);
        }
        let whole = format!("{licence} WITH {}", self.next().unwrap_or_default());
        self.allowed.contains(&whole.as_str())
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied()?;
        self.at += 1;
        Some(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.words.get(self.at) == Some(&word);
        self.at += usize::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions_of_real_manifests() {
        let allowed = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"];
        for fine in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "ISC AND (Apache-2.0 OR OpenSSL)",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(fine, &allowed), "{fine}");
        }
        for not in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT )",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "(MIT OR GPL-3.0) AND OpenSSL",
        ] {
            assert!(!is_allowed(not, &allowed), "{not}");
        }
    }
}
