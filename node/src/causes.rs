//! Errors told with their causes.

/// An error and what caused it; a cause that the error has told already is not told twice.
#[must_use]
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Telling(#[source] std::io::Error);
        assert_eq!(with_causes(&Outer(std::io::Error::other("inner"))), "outer: inner");
        assert_eq!(with_causes(&Telling(std::io::Error::other("inner"))), "outer: inner");
    }
}
