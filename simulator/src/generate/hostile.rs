//! Records that no real tenant was seen to send, and that must harm nobody: valid JSON in places
//! where programs expect less (no published record has a NUL, a lone surrogate or great depth, so
//! these are made up).

use crate::{
    chance::Chance,
    generate::{Meta, json::Object},
};

/// How a record is hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hostile {
    /// An escape that is half of a surrogate pair.
    LoneSurrogate,
    /// An escaped NUL.
    Nul,
    /// Arrays in arrays, 500 deep.
    Depth,
    /// A number of a thousand digits, and one beyond a double.
    Number,
    /// Members whose names contain what separates members.
    Punctuation,
    /// White space wherever JSON allows it.
    Space,
    /// Not an object.
    Scalar(&'static str),
}

const KINDS: [Hostile; 11] = [
    Hostile::LoneSurrogate,
    Hostile::Nul,
    Hostile::Depth,
    Hostile::Number,
    Hostile::Punctuation,
    Hostile::Space,
    Hostile::Scalar("null"),
    Hostile::Scalar("-1.5e-3"),
    Hostile::Scalar("\"a string, not a record }\""),
    Hostile::Scalar("[[],{}]"),
    Hostile::Scalar("{}"),
];

impl Hostile {
    /// Draws whether a record is hostile, and how.
    pub(crate) fn draw(chance: &mut Chance, share: f64) -> Option<Self> {
        chance.hit(share).then(|| *chance.pick(&KINDS))
    }

    /// Adds its members.
    pub(crate) fn add(self, object: &mut Object<'_>) {
        match self {
            Self::LoneSurrogate => object.raw("DisplayName", r#""half a pair \ud83d here""#),
            Self::Nul => object.raw("DisplayName", r#""nul\u0000terminated""#),
            Self::Depth => {
                let nested = format!("{}{}", "[".repeat(500), "]".repeat(500));
                object.raw("Nested", &nested);
            }
            Self::Number => {
                object.raw("Digits", &"9".repeat(1_000));
                object.raw("Beyond", "1e999");
            }
            Self::Punctuation => {
                object.raw("},{", r#""],[\"\\""#);
                object.raw(r#"quoted \" name"#, "0");
            }
            Self::Space | Self::Scalar(_) => {}
        }
    }

    /// Changes the finished record, which starts at `start`.
    pub(crate) fn finish(self, out: &mut Vec<u8>, start: usize, meta: &mut Meta) {
        match self {
            Self::Space => {
                let inside = start + 1;
                out.splice(inside..inside, *b"\r\n\t ");
                let end = out.len() - 1;
                out.splice(end..end, *b" \n\n");
            }
            Self::Scalar(text) => {
                out.truncate(start);
                out.extend_from_slice(text.as_bytes());
                *meta = Meta {
                    id: None,
                    identified: false,
                };
            }
            _ => {}
        }
    }
}
