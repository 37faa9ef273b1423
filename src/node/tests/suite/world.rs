//! An API, an agent and a data folder. What still runs is ended when the world is dropped.

use crate::api::Api;
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use node::agent::{Agent, Choice, Options};
use node::images::StandIn;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
pub const NAMESPACE: &str = "kubeflow";

pub struct World {
    pub data: tempfile::TempDir,
    pub api: Api,
    pub tasks: Tasks,
    pub runtime: Choice,
}

impl World {
    pub async fn new(runtime: Choice) -> Self {
        let world = Self { data: tempfile::tempdir().unwrap(), api: Api::new(), tasks: Tasks::root("test"), runtime };
        world.start().await;
        world
    }

    /// Starts an agent on the same data, as a platform does after a kill.
    pub async fn start(&self) -> Agent {
        let agent = Agent::new(self.api.client(), self.options()).await.unwrap();
        agent.recover().await.unwrap();
        let running = agent.clone();
        self.tasks.spawn("agent", async move { running.run().await });
        agent
    }

    /// Ends the agent and everything it runs beside itself, but not its shims.
    pub async fn kill(&mut self) {
        assert!(self.tasks.stop(LIMIT).await);
        self.tasks = Tasks::root("test");
    }

    fn options(&self) -> Options {
        Options {
            node_name: "n".into(),
            data_dir: self.data.path().to_owned(),
            exe: std::env::current_exe().unwrap(),
            shim_role: vec!["shim".into()],
            runtime: self.runtime,
            stand_in: StandIn::Nearest,
            uv: std::env::var_os("KUBEFLOW_TEST_UV").map(PathBuf::from),
            clock: Clock::system(),
            tasks: self.tasks.clone(),
        }
    }

    pub fn pods(&self) -> kube::Api<Pod> {
        kube::Api::namespaced(self.api.client(), NAMESPACE)
    }

    pub async fn create(&self, pod: Value) -> Pod {
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
    }

    /// The pod, once `found` holds.
    pub async fn until(&self, name: &str, found: impl Fn(&Pod) -> bool) -> Pod {
        let begin = Instant::now();
        let pods = self.pods();
        loop {
            let pod = pods.get(name).await.unwrap();
            if found(&pod) {
                return pod;
            }
            assert!(begin.elapsed() < LIMIT, "last: {}", serde_json::to_string_pretty(&pod.status).unwrap());
            tokio::task::yield_now().await;
        }
    }

    pub async fn ended(&self, name: &str) -> Pod {
        self.until(name, |pod| matches!(phase(pod), "Succeeded" | "Failed")).await
    }

    /// What a container wrote, from the files.
    pub fn log(&self, pod: &Pod, container: &str, attempt: u32) -> String {
        let uid = pod.metadata.uid.as_deref().unwrap();
        let path = self.data.path().join("pods").join(uid).join("logs").join(format!("{container}.{attempt}.log"));
        node::logs::tail(&path, 1000, 1 << 20)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.token().cancel();
        node::down::down(self.data.path());
    }
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_running(pod: &Pod) -> bool {
    phase(pod) == "Running"
}

/// A pod of one shell script.
pub fn shell(name: &str, script: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": "n", "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", script]}]
        }
    })
}

/// Code, reason and message of the first container's end.
pub fn end(pod: &Pod) -> (i32, String, String) {
    let status = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone();
    let ended = status.state.unwrap().terminated.unwrap_or_else(|| panic!("not ended: {:?}", pod.status));
    (ended.exit_code, ended.reason.unwrap_or_default(), ended.message.unwrap_or_default())
}
