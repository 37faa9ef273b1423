//! The pip lines of a step, read from its own command, so that the node can have them installed before it starts.
//!
//! Source: the shell script that KFP's compiler puts in front of a lightweight component; everything else has no pip lines.

/// Flags that change what is printed, not what is installed.
const QUIET: [&str; 5] =
    ["-q", "--quiet", "--no-warn-script-location", "--disable-pip-version-check", "--no-cache-dir"];

/// The arguments of each `pip install` in the order in which they run: requirements and flags.
pub fn of_command(command: &[String]) -> Vec<Vec<String>> {
    let mut groups = Vec::new();
    for script in command.iter().filter(|argument| argument.contains("-m pip install")) {
        let words = words(script);
        let mut at = 0;
        while at < words.len() {
            if words[at..].starts_with(&["-m", "pip", "install"].map(str::to_owned)) {
                at += 3;
                let end =
                    words[at..].iter().position(|word| ENDS.contains(&word.as_str())).map_or(words.len(), |n| at + n);
                let group: Vec<String> =
                    words[at..end].iter().filter(|word| !QUIET.contains(&word.as_str())).cloned().collect();
                if !group.is_empty() {
                    groups.push(group);
                }
                at = end;
            } else {
                at += 1;
            }
        }
    }
    groups
}

/// What ends a command in a shell.
const ENDS: [&str; 5] = ["&&", "||", ";", "|", "\n"];

/// Splits a script into words as a shell does, as far as quotes go; operators are words of their own.
fn words(script: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, ';' | '|' | '&' | '\n') => {
                words.extend(word.take());
                let mut operator = c.to_string();
                if matches!(c, '|' | '&') && chars.peek() == Some(&c) {
                    operator.extend(chars.next());
                }
                words.push(operator);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_compiled_component_are_found_in_order() {
        let script = "\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || \
                      apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet \
                      --no-warn-script-location 'pandas==2.2.2' 'six'  &&  python3 -m pip install --quiet \
                      --no-warn-script-location 'kfp==2.17.0' '--no-deps' \
                      'typing-extensions>=3.7.4,<5; python_version<\"3.9\"' && \"$0\" \"$@\"\n";
        let command = ["sh", "-c", script, "sh", "-ec", "program"].map(str::to_owned);
        assert_eq!(
            of_command(&command),
            [
                vec!["pandas==2.2.2".to_owned(), "six".to_owned()],
                vec![
                    "kfp==2.17.0".to_owned(),
                    "--no-deps".to_owned(),
                    "typing-extensions>=3.7.4,<5; python_version<\"3.9\"".to_owned()
                ],
            ]
        );
    }

    #[test]
    fn other_commands_have_none() {
        assert!(of_command(&["sh".to_owned(), "-c".to_owned(), "echo pip install x".to_owned()]).is_empty());
    }
}
