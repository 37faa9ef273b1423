//! Finds the run that somebody means: by its id, the beginning of it, or its name.

use anyhow::{Result, bail};
use serde_json::Value;

use super::percent;
use crate::client::Client;

/// Shorter beginnings are typed by mistake.
const PREFIX_MIN: usize = 4;
/// Length of an id.
const ID_LENGTH: usize = 36;
/// So many candidates are shown.
const SHOWN: usize = 5;

/// A run that may be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    name: String,
    created: String,
}

/// The id of the run that `text` means.
///
/// # Errors
/// When none is meant, or several could be: then they are listed.
pub(super) async fn run(client: &Client, text: &str) -> Result<String> {
    if text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Ok(text.to_owned());
    }
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let listed = client.get(&format!("/apis/v2beta1/runs?page_size=200&page_token={}", percent(&token))).await?;
        found.extend(listed["runs"].as_array().into_iter().flatten().map(candidate).filter(|run| means(run, text)));
        token = listed["next_page_token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return choose(text, found);
        }
    }
}

fn candidate(run: &Value) -> Candidate {
    let of = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
    Candidate { id: of("run_id"), name: of("display_name"), created: of("created_at") }
}

fn means(run: &Candidate, text: &str) -> bool {
    run.name == text || (text.len() >= PREFIX_MIN && run.id.starts_with(text))
}

fn choose(text: &str, mut found: Vec<Candidate>) -> Result<String> {
    match found.as_slice() {
        [] => bail!("no run has the name {text:?} or an id that begins with it; `kubeflow pipeline runs` lists them"),
        [one] => Ok(one.id.clone()),
        many => {
            let count = many.len();
            found.sort_by(|a, b| b.created.cmp(&a.created));
            let mut lines: Vec<String> =
                found.iter().take(SHOWN).map(|run| format!("  {}  {}  {}", run.id, run.created, run.name)).collect();
            if count > SHOWN {
                lines.push(format!("  and {} more", count - SHOWN));
            }
            bail!("{text:?} could mean {count} runs; say which by its id:\n{}", lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_meant_by_its_name_or_the_beginning_of_its_id_if_it_is_the_only_one() {
        let run =
            |id: &str, name: &str| Candidate { id: id.to_owned(), name: name.to_owned(), created: "t".to_owned() };
        let all = [run("abcd-1", "digits"), run("abcd-2", "digits"), run("ffff-3", "abc")];
        let find = |text: &str| choose(text, all.iter().filter(|run| means(run, text)).cloned().collect());
        assert_eq!(find("abcd-1").ok().as_deref(), Some("abcd-1"));
        assert_eq!(find("abc").ok().as_deref(), Some("ffff-3"), "three characters are a name only");
        let error = find("digits").expect_err("two").to_string();
        assert!(error.contains("2 runs") && error.contains("abcd-1") && error.contains("abcd-2"), "{error}");
        assert!(find("nothing").is_err());
    }
}
