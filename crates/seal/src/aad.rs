//! Additional authenticated data as a list of fields that can be read in one way only.

/// Fields that are bound to a ciphertext: each is preceded by its length, so no two lists give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aad(Vec<u8>);

impl Aad {
    /// Starts with what the ciphertext is for.
    pub fn new(purpose: &str) -> Self {
        Self(Vec::with_capacity(256)).field(purpose.as_bytes())
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
        self
    }

    /// Adds a number as a field.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.field(&number.to_le_bytes())
    }

    /// The bytes of a test vector, which are no list of fields.
    #[cfg(test)]
    pub(crate) fn verbatim(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Aad;

    #[test]
    fn moving_a_byte_between_fields_changes_the_aad() {
        let left = Aad::new("p").field(b"ab").field(b"c");
        let right = Aad::new("p").field(b"a").field(b"bc");
        assert_ne!(left.as_bytes(), right.as_bytes());
    }

    #[test]
    fn an_empty_field_counts() {
        assert_ne!(Aad::new("p").as_bytes(), Aad::new("p").field(b"").as_bytes());
    }
}
