//! Python steps: an environment is built once, the pip front answers, what a step installs stays in the step.

use crate::world::{World, phase};
use node::agent::Choice;
use serde_json::{Value, json};

fn python(name: &str, requirements: &[&[&str]], script: &str) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"pipelines.kubeflow.org/requirements": json!(requirements).to_string()}},
        "spec": {
            "nodeName": "n", "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "python:3.11", "command": ["sh", "-c", script]}]
        }
    })
}

#[tokio::test]
async fn a_step_finds_python_and_an_environment_of_its_own() {
    let world = World::new(Choice::Best).await;
    let script = "command -v pip && python3 -c 'import sys; print(sys.prefix, sys.version_info[0])' && pip --version | cut -c1-3 \
        && python3 -m pip install --quiet pip && touch /venv/mine && echo done";
    for name in ["one", "two"] {
        world.create(python(name, &[], script)).await;
        let pod = world.ended(name).await;
        let said = world.log(&pod, "c", 0);
        assert_eq!((phase(&pod), said.as_str()), ("Succeeded", "/kubeflow/bin/pip\n/venv 3\npip\ndone\n"), "{pod:?}");
    }
    let built = std::fs::read_dir(world.data.path().join("environments")).unwrap().count();
    assert_eq!(built, 1);
}
