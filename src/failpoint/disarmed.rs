//! What a build without failpoints has: nothing.

/// No failpoints.
#[derive(Clone, Debug, Default)]
pub struct Failpoints;

impl Failpoints {
    /// Takes the empty text alone.
    ///
    /// # Errors
    /// Failpoints were asked for.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self) } else { Err("this build has no failpoints".to_owned()) }
    }

    /// Does nothing.
    #[inline]
    pub fn hit(&self, _place: &str, _number: u64) {}

    /// Nothing.
    pub fn for_trainer(&self, _attempt: u32) -> String {
        String::new()
    }
}
