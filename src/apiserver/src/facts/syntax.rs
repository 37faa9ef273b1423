//! Says what is wrong with a text that is no JSON, in the words of Go's decoder. Called only when parsing failed.
//!
//! Invariant: pure; bounded by the text's length.

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

const DEPTH_LIMIT: usize = 128;

/// Go's text for the first mistake; "unexpected end of JSON input" if there is none.
pub fn explain(bytes: &[u8]) -> String {
    let mut scanner = Scanner { bytes, at: 0, depth: 0 };
    match scanner.value() {
        Err(text) => text,
        Ok(()) => {
            scanner.space();
            match scanner.bytes.get(scanner.at) {
                Some(byte) => invalid(*byte, "after top-level value"),
                None => "unexpected end of JSON input".to_owned(),
            }
        }
    }
}

fn invalid(byte: u8, context: &str) -> String {
    let shown = match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        0x20..0x7f => format!("'{}'", byte as char),
        b'\n' => "'\\n'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        _ => format!("'\\x{byte:02x}'"),
    };
    format!("invalid character {shown} {context}")
}

impl Scanner<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| matches!(b, b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn need(&mut self, context: &str, allowed: &[u8]) -> Result<u8, String> {
        self.space();
        let byte = *self.bytes.get(self.at).ok_or("unexpected end of JSON input")?;
        if !allowed.contains(&byte) {
            return Err(invalid(byte, context));
        }
        self.at += 1;
        Ok(byte)
    }

    fn value(&mut self) -> Result<(), String> {
        self.space();
        let byte = *self.bytes.get(self.at).ok_or("unexpected end of JSON input")?;
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err("exceeded max depth".into());
        }
        let found = match byte {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => {
                while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_digit() || b"+-.eE".contains(b)) {
                    self.at += 1;
                }
                Ok(())
            }
            other => Err(invalid(other, "looking for beginning of value")),
        };
        self.depth -= 1;
        found
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for (at, expected) in word.bytes().enumerate() {
            let byte = *self.bytes.get(self.at).ok_or("unexpected end of JSON input")?;
            if byte != expected {
                let wanted = expected as char;
                return Err(invalid(byte, &format!("in literal {word} (expecting '{wanted}')")));
            }
            self.at += usize::from(at < word.len());
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match *self.bytes.get(self.at).ok_or("unexpected end of JSON input")? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.at += 2,
                byte @ 0..0x20 => return Err(invalid(byte, "in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn object(&mut self) -> Result<(), String> {
        self.at += 1;
        self.space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.need("looking for beginning of object key string", b"\"")?;
            self.at -= 1;
            self.string()?;
            self.need("after object key", b":")?;
            self.value()?;
            if self.need("after object key:value pair", b",}")? == b'}' {
                return Ok(());
            }
        }
    }

    fn array(&mut self) -> Result<(), String> {
        self.at += 1;
        self.space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            if self.need("after array element", b",]")? == b']' {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mistakes_read_as_go_reads_them() {
        for (text, wanted) in [
            ("{nope", "invalid character 'n' looking for beginning of object key string"),
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("[1 2]", "invalid character '2' after array element"),
            ("i", "invalid character 'i' looking for beginning of value"),
        ] {
            assert_eq!(explain(text.as_bytes()), wanted);
        }
    }

    proptest! {
        #[test]
        fn anything_is_explained(text in ".{0,60}") {
            explain(text.as_bytes());
        }
    }
}
