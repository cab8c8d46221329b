//! Which endpoints a request was sent to.

/// The endpoints already tried for one request.
///
/// Allocates nothing for a service's first 64 endpoints, and nothing before the first failure.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: u64,
    others: Vec<u64>,
}

impl Tried {
    pub fn insert(&mut self, index: usize) {
        match index.checked_sub(64) {
            None => self.first |= 1 << index,
            Some(index) => {
                let word = index / 64;
                if word >= self.others.len() {
                    self.others.resize(word + 1, 0);
                }
                self.others[word] |= 1 << (index % 64);
            }
        }
    }

    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        let word = match index.checked_sub(64) {
            None => self.first,
            Some(index) => self.others.get(index / 64).copied().unwrap_or(0),
        };
        word >> (index % 64) & 1 == 1
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.others.is_empty()
    }

    pub fn clear(&mut self) {
        self.first = 0;
        self.others.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Tried;

    #[test]
    fn it_holds_what_was_inserted_and_nothing_else() {
        for index in [0, 1, 63, 64, 65, 127, 128, 1000] {
            let mut tried = Tried::default();
            assert!(tried.is_empty());
            tried.insert(index);
            for other in 0..1200 {
                assert_eq!(tried.contains(other), other == index, "{other} after {index}");
            }
            assert!(!tried.is_empty());
            tried.clear();
            assert!(tried.is_empty());
            assert!(!tried.contains(index));
        }
    }
}
