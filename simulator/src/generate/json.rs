//! Writes JSON text straight into a buffer: key order and spelling are part of a record, and two
//! million records are made without building a tree for any of them.

/// An object being written.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    escape_slashes: bool,
    first: bool,
}

/// An array being written.
pub(crate) struct Array<'a> {
    out: &'a mut Vec<u8>,
    escape_slashes: bool,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object; [`Object::close`] must follow.
    pub(crate) fn open(out: &'a mut Vec<u8>, escape_slashes: bool) -> Self {
        out.push(b'{');
        Self {
            out,
            escape_slashes,
            first: true,
        }
    }

    /// Closes the object.
    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string member.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        string(self.out, value, self.escape_slashes);
    }

    /// A GUID as a string member.
    pub(crate) fn guid(&mut self, key: &str, value: u128) {
        self.key(key);
        self.out.push(b'"');
        guid(self.out, value);
        self.out.push(b'"');
    }

    /// A number member.
    pub(crate) fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        number(self.out, value);
    }

    /// A boolean member.
    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    /// A member whose value is already JSON.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// An object member.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut inner = Object::open(self.out, self.escape_slashes);
        fill(&mut inner);
        inner.close();
    }

    /// An array member.
    pub(crate) fn array(&mut self, key: &str, fill: impl FnOnce(&mut Array<'_>)) {
        self.key(key);
        self.out.push(b'[');
        let mut inner = Array {
            out: self.out,
            escape_slashes: self.escape_slashes,
            first: true,
        };
        fill(&mut inner);
        self.out.push(b']');
    }

    /// A string member that holds an object as JSON text.
    pub(crate) fn json_text(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut inner_text = Vec::with_capacity(256);
        let mut inner = Object::open(&mut inner_text, false);
        fill(&mut inner);
        inner.close();
        self.key(key);
        string(
            self.out,
            &String::from_utf8_lossy(&inner_text),
            self.escape_slashes,
        );
    }

    /// A string member of this many bytes, for records of unusual size.
    pub(crate) fn filler(&mut self, key: &str, bytes: usize) {
        const LINE: &[u8] = b"the quick brown fox jumps over the lazy dog, 0123456789; ";
        self.key(key);
        self.out.push(b'"');
        self.out.reserve(bytes);
        for start in (0..bytes).step_by(LINE.len()) {
            self.out
                .extend_from_slice(&LINE[..LINE.len().min(bytes - start)]);
        }
        self.out.push(b'"');
    }
}

impl Array<'_> {
    fn comma(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }

    /// A string element.
    pub(crate) fn text(&mut self, value: &str) {
        self.comma();
        string(self.out, value, self.escape_slashes);
    }

    /// A GUID as a string element.
    pub(crate) fn guid(&mut self, value: u128) {
        self.comma();
        self.out.push(b'"');
        guid(self.out, value);
        self.out.push(b'"');
    }

    /// An object element.
    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        self.comma();
        let mut inner = Object::open(self.out, self.escape_slashes);
        fill(&mut inner);
        inner.close();
    }

    /// A pair such as `{"Name": …, "Value": …}`.
    pub(crate) fn pair(&mut self, (name_key, value_key): (&str, &str), name: &str, value: &str) {
        self.object(|pair| {
            pair.text(name_key, name);
            pair.text(value_key, value);
        });
    }

    /// A `{"Name": …, "Value": …}` pair.
    pub(crate) fn named(&mut self, name: &str, value: &str) {
        self.pair(("Name", "Value"), name, value);
    }
}

fn number(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(value.to_string().as_bytes());
}

/// Writes a GUID in its usual form.
pub(crate) fn guid(out: &mut Vec<u8>, value: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in guid_bytes(value).into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// A GUID in its usual form.
pub(crate) fn guid_text(value: u128) -> String {
    uuid::Uuid::from_bytes(guid_bytes(value)).to_string()
}

/// Marks random bits as a random (version 4) GUID.
fn guid_bytes(value: u128) -> [u8; 16] {
    let mut bytes = value.to_be_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

fn string(out: &mut Vec<u8>, value: &str, escape_slashes: bool) {
    out.push(b'"');
    let bytes = value.as_bytes();
    let mut written = 0;
    for (place, byte) in bytes.iter().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            b'/' if escape_slashes => b"\\/",
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..place]);
        out.extend_from_slice(escaped);
        written = place + 1;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_parses_back() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out, true);
        object.text("a", "line\r\n\t\"quoted\" \\ https://x 🚀");
        object.guid("g", 7);
        object.number("n", -5);
        object.flag("f", true);
        object.json_text("j", |inner| inner.text("k", "v\""));
        object.array("l", |list| {
            list.text("x");
            list.named("N", "V");
        });
        object.filler("pad", 100);
        object.close();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["a"], "line\r\n\t\"quoted\" \\ https://x 🚀");
        assert_eq!(value["g"], guid_text(7));
        assert_eq!(value["n"], -5);
        assert_eq!(value["j"], r#"{"k":"v\""}"#);
        assert_eq!(value["l"][1]["Value"], "V");
        assert_eq!(value["pad"].as_str().unwrap().len(), 100);
        assert!(String::from_utf8(out).unwrap().contains(r"https:\/\/x"));
    }
}
