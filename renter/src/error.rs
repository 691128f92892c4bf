//! What errors that reach the API have in common: a stable code, and JSON of code and message.

/// Gives an error enum its stable codes, and serializes it as `{"code", "message"}`. One that has
/// something for programs in it says `details` before its codes, and has a method of that name.
///
/// A variant `Inner(code)` would hide what is inside, so errors that wrap others forward to them with
/// `=> inner.code()`.
macro_rules! error_codes {
    (details $name:ty { $($codes:tt)+ }) => {
        $crate::error::error_codes!(@codes $name { $($codes)+ } {
            fn details(&self) -> $crate::error::Details {
                <$name>::details(self)
            }
        });
    };
    ($name:ty { $($codes:tt)+ }) => {
        $crate::error::error_codes!(@codes $name { $($codes)+ } {});
    };
    (@codes $name:ty { $($pattern:pat => $code:expr),+ $(,)? } { $($details:tt)* }) => {
        impl $name {
            /// A stable word for programs, in snake case.
            #[must_use]
            pub fn code(&self) -> &'static str {
                #[allow(unused_imports)] // Only for variants that forward to a foreign error.
                use $crate::error::Coded as _;
                match self { $($pattern => $code),+ }
            }
        }

        impl $crate::error::Coded for $name {
            fn code(&self) -> &'static str {
                <$name>::code(self)
            }

            $($details)*
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeStruct as _;
                let mut object = serializer.serialize_struct("Error", 2)?;
                object.serialize_field("code", self.code())?;
                object.serialize_field("message", &self.to_string())?;
                object.end()
            }
        }
    };
}
pub(crate) use error_codes;

/// What a program can use of an error: amounts, limits and the like, by name.
pub type Details = serde_json::Map<String, serde_json::Value>;

/// Details of names and values.
#[must_use]
pub fn details<const N: usize>(members: [(&str, serde_json::Value); N]) -> Details {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An error with a stable code.
pub trait Coded: std::error::Error {
    /// A stable word for programs, in snake case.
    fn code(&self) -> &'static str;

    /// What a program can use of it; nothing if its code says all.
    fn details(&self) -> Details {
        Details::new()
    }
}

impl Coded for crate::world::StoreError {
    fn code(&self) -> &'static str {
        "store_failed"
    }
}

impl Coded for crate::world::FileError {
    fn code(&self) -> &'static str {
        "file_failed"
    }
}

impl Coded for crate::world::ChainError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "chain_unreachable",
            Self::False(_) => "chain_false",
            Self::Refused(_) => "transaction_refused",
            Self::Dropped(_) => "transaction_dropped",
        }
    }
}
