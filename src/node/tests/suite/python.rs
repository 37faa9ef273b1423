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

#[tokio::test]
async fn plain_processes_see_the_shared_environment_and_add_to_their_own() {
    let world = World::new(Choice::Process).await;
    let script = "python3 -m pip --version | cut -c1-3; python3 -m pip install --quiet pip && echo there; \
        python3 -c 'import sys; print(sys.prefix)'";
    let created = world.create(python("p", &[], script)).await;
    let pod = world.ended("p").await;
    let own = world.data.path().join("pods").join(created.metadata.uid.unwrap()).join("scratch/c/venv");
    assert_eq!(world.log(&pod, "c", 0), format!("pip\nthere\n{}\n", own.display()), "{:?}", pod.status);
}
