//! The grammar of label selectors. Called by `selector::parse_labels` only.
//!
//! Invariant: error texts are Kubernetes' own.

use super::{Labels, Operator, Requirement};
use crate::validation;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
    In,
    NotIn,
    Word(String),
}

struct Lexer {
    tokens: Vec<(Token, String)>,
    at: usize,
}

fn special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn tokens(text: &str) -> Vec<(Token, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at).copied() {
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        if special(c) {
            let two: String = chars.iter().skip(at).take(2).collect();
            let (token, length) = match (two.as_str(), c) {
                ("==", _) => (Token::Equal, 2),
                ("!=", _) => (Token::NotEqual, 2),
                (_, '=') => (Token::Equal, 1),
                (_, '!') => (Token::Not, 1),
                (_, '(') => (Token::Open, 1),
                (_, ')') => (Token::Close, 1),
                (_, ',') => (Token::Comma, 1),
                (_, '>') => (Token::Greater, 1),
                _ => (Token::Less, 1),
            };
            at += length;
            out.push((token, chars[start..at].iter().collect()));
            continue;
        }
        while chars.get(at).is_some_and(|c| !special(*c) && !c.is_whitespace()) {
            at += 1;
        }
        let word: String = chars[start..at].iter().collect();
        let token = match word.as_str() {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Word(word.clone()),
        };
        out.push((token, word));
    }
    out
}

impl Lexer {
    fn peek(&self) -> (Token, &str) {
        self.tokens.get(self.at).map_or((Token::End, ""), |(t, s)| (t.clone(), s.as_str()))
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let text = text.to_owned();
        self.at += 1;
        (token, text)
    }

    /// A word where `in` and `notin` are words too.
    fn word(&mut self) -> Result<String, String> {
        match self.next() {
            (Token::Word(_) | Token::In | Token::NotIn, text) => Ok(text),
            (_, text) => Err(text),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        if self.peek().0 == Token::Not {
            self.next();
            let key = self.word().map_err(|found| format!("found '{found}', expected: identifier"))?;
            return Ok(Requirement { key, operator: Operator::Absent });
        }
        let key = self.word().map_err(|found| format!("found '{found}', expected: identifier"))?;
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement { key, operator: Operator::Exists });
        }
        let (token, text) = self.next();
        let operator = match token {
            Token::In => Operator::In(self.values()?),
            Token::NotIn => Operator::NotIn(self.values()?),
            Token::Equal => Operator::In(vec![self.value()?]),
            Token::NotEqual => Operator::NotIn(vec![self.value()?]),
            Token::Greater => Operator::Greater(self.integer(&key)?),
            Token::Less => Operator::Less(self.integer(&key)?),
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, operator })
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        self.word().map_err(|found| format!("found '{found}', expected: identifier"))
    }

    fn integer(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| {
            format!(
                "values[0][{key}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, text) = self.next();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                (Token::Close, _) => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    return Ok(out);
                }
                (Token::Comma, _) if out.is_empty() || matches!(self.peek().0, Token::Comma | Token::Close) => {
                    out.push(String::new());
                }
                (Token::Comma, _) => {}
                (Token::Word(_) | Token::In | Token::NotIn, text) => out.push(text),
                (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
            }
        }
    }
}

fn checked(requirement: Requirement) -> Result<Requirement, String> {
    if let Some(problem) = validation::qualified_name(&requirement.key).first() {
        let key = serde_json::Value::String(requirement.key);
        return Err(format!("key: Invalid value: {key}: {problem}"));
    }
    if let Operator::In(values) | Operator::NotIn(values) = &requirement.operator {
        for (at, value) in values.iter().enumerate() {
            if let Some(problem) = validation::label_value(value).first() {
                let quoted = serde_json::Value::String(value.clone());
                return Err(format!("values[{at}][{}]: Invalid value: {quoted}: {problem}", requirement.key));
            }
        }
    }
    Ok(requirement)
}

/// Parses a label selector.
pub fn parse(text: &str) -> Result<Labels, String> {
    let mut lexer = Lexer { tokens: tokens(text), at: 0 };
    let mut out = Vec::new();
    loop {
        match lexer.peek() {
            (Token::End, _) => return Ok(Labels(out)),
            (Token::Word(_) | Token::Not | Token::In | Token::NotIn, _) => {}
            (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
        }
        let requirement = lexer.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
        out.push(checked(requirement).map_err(|e| format!("unable to parse requirement: {e}"))?);
        match lexer.next() {
            (Token::End, _) => return Ok(Labels(out)),
            (Token::Comma, _) => match lexer.peek() {
                (Token::Word(_) | Token::Not | Token::In | Token::NotIn, _) => {}
                (_, found) => return Err(format!("found '{found}', expected: identifier after ','")),
            },
            (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
        }
    }
}
