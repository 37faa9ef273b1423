//! Every placeholder of the list, and what is none.

use super::*;

fn check(text: &str, expected: &[Segment<'_>]) {
    assert_eq!(segments(text), expected, "{text}");
}

#[test]
fn every_placeholder_of_the_list_is_recognised() {
    use Field::*;
    use Placeholder::*;
    for (text, placeholder) in [
        ("{{$}}", ExecutorInput),
        ("{{$.inputs.parameters['n']}}", InputParameter("n")),
        ("{{$.inputs.parameters['pipelinechannel--a-b']}}", InputParameter("pipelinechannel--a-b")),
        ("{{$.inputs.artifacts['d'].uri}}", InputArtifact("d", Uri)),
        ("{{$.inputs.artifacts['d'].path}}", InputArtifact("d", Path)),
        ("{{$.inputs.artifacts['d'].metadata}}", InputArtifact("d", Metadata)),
        ("{{$.inputs.artifacts['d'].metadata['k']}}", InputArtifact("d", MetadataKey("k"))),
        ("{{$.inputs.artifacts['d'].properties['k']}}", InputArtifact("d", MetadataKey("k"))),
        ("{{$.inputs.artifacts['d']}}", InputArtifact("d", Whole)),
        ("{{$.outputs.artifacts['m'].uri}}", OutputArtifact("m", Uri)),
        ("{{$.outputs.artifacts['m'].metadata['k']}}", OutputArtifact("m", MetadataKey("k"))),
        ("{{$.outputs.parameters['o'].output_file}}", OutputParameterFile("o")),
        ("{{$.outputs.output_file}}", OutputFile),
        ("{{$.pipeline_job_name}}", Fact("pipeline_job_name")),
        ("{{$.workspace_path}}", Fact("workspace_path")),
    ] {
        check(text, &[Segment::Placeholder(placeholder, text)]);
    }
}

#[test]
fn placeholders_stand_anywhere_and_other_braces_are_text() {
    check(
        "a{{$}}b",
        &[Segment::Text("a"), Segment::Placeholder(Placeholder::ExecutorInput, "{{$}}"), Segment::Text("b")],
    );
    for text in ["{{workflow.name}}", "{{$.inputs.parameters['n'", "{ {$}}", "{{$.inputs.parameters[n]}}", ""] {
        assert_eq!(render(text, |_| Some("x".to_owned())), text);
    }
}

#[test]
fn what_names_nothing_stays_as_it_is() {
    assert_eq!(render("--b={{$.inputs.parameters['b']}}", |_| None), "--b={{$.inputs.parameters['b']}}");
}

#[test]
fn values_in_text_are_written_as_the_launcher_writes_them() {
    for (value, text) in [
        (serde_json::json!("raw"), "raw"),
        (serde_json::json!(3.0), "3"),
        (serde_json::json!(0.25), "0.25"),
        (serde_json::json!(true), "true"),
        (serde_json::json!([1.0, "a"]), "[1,\"a\"]"),
    ] {
        assert_eq!(to_text(&value), text);
    }
}

#[test]
fn structured_arguments_expand_to_none_one_or_several() {
    let present = |name: &str| name == "there";
    let check = |argument: &str, expected: Option<Vec<&str>>| {
        let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(expand(argument, &present), expected, "{argument}");
    };
    check(r#"{"Concat": ["a-", {"IfPresent": {"InputName": "there", "Then": "b", "Else": "c"}}]}"#, Some(vec!["a-b"]));
    check(r#"{"IfPresent": {"InputName": "there", "Then": ["--x", {"Concat": ["1", "2"]}]}}"#, Some(vec!["--x", "12"]));
    check(r#"{"IfPresent": {"InputName": "absent", "Then": ["--x"]}}"#, Some(vec![]));
    check(r#"{"IfPresent": {"InputName": "absent", "Then": ["--x"], "Else": "--no-x"}}"#, Some(vec!["--no-x"]));
    check(r#"{"Concat": 3}"#, None);
    check(r#"{"a": "Concat"}"#, None);
    check("plain", None);
}
