//! Packages as people upload them, good and bad.

use std::io::Write;

use super::*;

const SMALL: &str = "
pipelineInfo: {name: small}
schemaVersion: 2.1.0
root: {dag: {tasks: {one: {componentRef: {name: comp-one}}}}}
components: {comp-one: {executorLabel: exec-one}}
deploymentSpec: {executors: {exec-one: {container: {image: alpine, command: ['true']}}}}
";

fn refused(text: &str) -> String {
    Package::from_yaml(text).expect_err("refused").to_string()
}

#[test]
fn one_and_two_documents_and_the_wrapper_are_the_same_package() {
    let one = Package::from_yaml(SMALL).expect("a package");
    assert_eq!(one.ir.pipeline_info.name, "small");
    assert_eq!(Package::from_json(one.document()).expect("a package"), one);
    let two = format!("{}\n---\nplatforms: {{kubernetes: {{}}}}\n", SMALL.to_owned());
    let two = Package::from_yaml(&two).expect("a package");
    assert!(two.platform.is_some());
    assert_eq!(Package::from_json(two.document()).expect("a package"), two);
}

#[test]
fn archives_are_opened() {
    let text = SMALL.to_owned();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "dir/pipeline.yaml", text.as_bytes()).expect("written");
    let bytes = tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("an archive");
    assert!(Package::from_file("x.tar.gz", &bytes).is_ok());

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("any.yml", zip::write::SimpleFileOptions::default()).expect("started");
    zip.write_all(text.as_bytes()).expect("written");
    let bytes = zip.finish().expect("an archive").into_inner();
    assert!(Package::from_file("x.zip", &bytes).is_ok());
    assert!(matches!(Package::from_file("x.zip", &bytes[..bytes.len() / 2]), Err(Error::Archive(_))));
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    for (change, said) in [
        (("2.1.0", "2.0.0"), "schemaVersion is \"2.0.0\""),
        (("name: small", "name: ''"), "name is empty"),
        (("comp-one}", "comp-two}"), "component \"comp-two\""),
        (("executorLabel: exec-one", "executorLabel: exec-two"), "executor \"exec-two\""),
        (("componentRef", "dependentTasks: [two], componentRef"), "needs \"two\""),
        (("componentRef", "dependentTasks: [one], componentRef"), "wait for each other"),
    ] {
        let text = SMALL.to_owned().replacen(change.0, change.1, 1);
        assert!(refused(&text).contains(said), "{change:?}: {}", refused(&text));
    }
    assert!(refused("a: [1").contains("not valid YAML"));
    assert!(refused("").contains("empty"));
    assert!(refused("apiVersion: argoproj.io/v1alpha1\nkind: Workflow").contains("KFP 1"));
    let recursive = SMALL.replace("{executorLabel: exec-one}", "{dag: {tasks: {t: {componentRef: {name: comp-one}}}}}");
    assert!(refused(&recursive).contains("contains itself"));
    assert!(matches!(Package::from_file("x.yaml", &vec![b' '; 33 << 20]), Err(Error::TooLarge)));
}
