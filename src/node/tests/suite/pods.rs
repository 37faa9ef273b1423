//! Lives of pods: ends, restarts, init containers, configuration, volumes, deletion, deadlines, kills of platform and shim.

use crate::world::{NAMESPACE, World, end, is_running, phase, shell};
use kube::api::{DeleteParams, PostParams};
use node::agent::Choice;
use serde_json::json;

#[tokio::test]
async fn a_pod_succeeds_and_another_fails_with_its_last_words() {
    let world = World::new(Choice::Best).await;
    world.create(shell("good", "echo out; echo err >&2")).await;
    world.create(shell("bad", "printf why > /dev/termination-log; exit 7")).await;
    let good = world.ended("good").await;
    assert_eq!((phase(&good), end(&good)), ("Succeeded", (0, "Completed".into(), String::new())));
    assert_eq!(world.log(&good, "c", 0), "out\nerr\n");
    let bad = world.ended("bad").await;
    assert_eq!((phase(&bad), end(&bad)), ("Failed", (7, "Error".into(), "why".into())));
}

#[tokio::test]
async fn conditions_come_in_a_kubelets_order() {
    let world = World::new(Choice::Best).await;
    world.create(shell("p", "sleep 600")).await;
    let pod = world.until("p", is_running).await;
    let status = pod.status.unwrap();
    let conditions: Vec<(String, String)> =
        status.conditions.unwrap().into_iter().map(|condition| (condition.type_, condition.status)).collect();
    let kinds = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
        "kubeflow.org/Runtime",
    ];
    assert_eq!(conditions, kinds.map(|kind| (kind.to_owned(), "True".to_owned())));
    assert_eq!((status.pod_ip, status.host_ip.is_some()), (status.host_ip.clone(), true));
    let container = &status.container_statuses.unwrap()[0];
    assert!(container.ready && container.started == Some(true) && container.container_id.is_some());
}

#[tokio::test]
async fn a_program_that_is_not_there_and_an_image_that_is_not_there() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("nocommand", "");
    pod["spec"]["containers"][0]["command"] = json!(["/nonesuch"]);
    world.create(pod).await;
    let mut pod = shell("noimage", "");
    pod["spec"]["containers"][0]["image"] = json!("gcr.io/my-image");
    world.create(pod).await;
    let pod = world.ended("nocommand").await;
    let (code, reason, message) = end(&pod);
    assert_eq!((code, reason.as_str()), (128, "StartError"));
    assert!(message.contains("/nonesuch") && message.contains("No such file"), "{message}");
    let waiting = |reason: &'static str| {
        move |pod: &k8s_openapi::api::core::v1::Pod| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let mut waiting = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
            waiting.any(|seen| seen == reason)
        }
    };
    world.until("noimage", waiting("ErrImagePull")).await;
    world.until("noimage", waiting("ImagePullBackOff")).await;
}

#[tokio::test]
async fn init_containers_run_in_order_and_share_volumes() {
    let world = World::new(Choice::Best).await;
    let init = |name: &str| {
        json!({"name": name, "image": "alpine:3.20", "command": ["sh", "-c", format!("echo {name} >> /data/order")],
               "volumeMounts": [{"name": "v", "mountPath": "/data"}]})
    };
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "n", "restartPolicy": "Never", "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init("one"), init("two")],
            "containers": [{"name": "c", "image": "busybox", "command": ["cat", "/data/order"],
                            "volumeMounts": [{"name": "v", "mountPath": "/data", "readOnly": true}]}]
        }
    });
    world.create(pod).await;
    let pod = world.ended("p").await;
    assert_eq!((phase(&pod), world.log(&pod, "c", 0).as_str()), ("Succeeded", "one\ntwo\n"));
}

#[tokio::test]
async fn restarts_back_off_and_count() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "echo run; exit 1");
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    world.create(pod).await;
    let pod = world
        .until("p", |pod| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let mut states = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
            states.any(|reason| reason == "CrashLoopBackOff")
        })
        .await;
    let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    assert_eq!((status.restart_count, phase(&pod)), (1, "Running"));
    assert_eq!(status.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    let message = status.state.as_ref().unwrap().waiting.as_ref().unwrap().message.clone().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=p_kubeflow("), "{message}");
}

#[tokio::test]
async fn configuration_reaches_variables_and_files() {
    let world = World::new(Choice::Best).await;
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(world.api.client(), NAMESPACE);
    let mut pod =
        shell("p", "echo $A $B $POD $CPU; cat /etc/conf/sub/file; ls -l /etc/conf/sub/file | cut -c1-10; echo $0");
    pod["spec"]["volumes"] =
        json!([{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "sub/file", "mode": 256}]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/etc/conf"}]);
    pod["spec"]["containers"][0]["args"] = json!(["$(A)-$(POD)"]);
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "B", "value": "$(A)!"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
    ]);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "500m"}});
    world.create(pod).await;
    world.until("p", |pod| phase(pod) == "Pending").await;
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": "value"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let pod = world.ended("p").await;
    assert_eq!(world.log(&pod, "c", 0), "value value! p 500\nvalue-r--------\nvalue-p\n");
}

#[tokio::test]
async fn deletion_is_graceful_and_waits_for_finalizers() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done");
    pod["metadata"]["finalizers"] = json!(["kubeflow.org/recorded"]);
    let created = world.create(pod).await;
    world.until("p", |pod| world.log(pod, "c", 0) == "ready\n").await;
    world.pods().delete("p", &DeleteParams::default()).await.unwrap();
    let pod = world.ended("p").await;
    assert_eq!((end(&pod).0, world.log(&pod, "c", 0).as_str()), (3, "ready\nbye\n"));
    world
        .pods()
        .patch("p", &Default::default(), &kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}, "x": 1})))
        .await
        .unwrap();
    let folder = world.data.path().join("pods").join(created.metadata.uid.unwrap());
    while world.pods().get_opt("p").await.unwrap().is_some() || folder.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_deadline_ends_a_pod() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "sleep 600");
    pod["spec"]["activeDeadlineSeconds"] = json!(1);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    world.create(pod).await;
    let pod = world.ended("p").await;
    assert_eq!(end(&pod).0, 137);
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test]
async fn a_killed_platform_takes_its_pods_back() {
    let mut world = World::new(Choice::Best).await;
    world.create(shell("runs-on", "echo a; sleep 1; echo b; exit 4")).await;
    world.create(shell("ends-meanwhile", "sleep 0.2; exit 5")).await;
    let first = world.until("runs-on", is_running).await;
    world.until("ends-meanwhile", is_running).await;
    world.kill().await;
    let uid = world.pods().get("ends-meanwhile").await.unwrap().metadata.uid.unwrap();
    let folder = shim::folder::Folder::at(world.data.path().join("pods").join(uid));
    while shim::exit::find(&folder, "c", 0).is_none() {
        tokio::task::yield_now().await;
    }
    world.start().await;
    assert_eq!(end(&world.ended("ends-meanwhile").await).0, 5);
    let pod = world.ended("runs-on").await;
    assert_eq!((end(&pod).0, world.log(&pod, "c", 0).as_str()), (4, "a\nb\n"));
    assert_eq!(pod.status.as_ref().unwrap().start_time, first.status.unwrap().start_time);
    // What has ended stays as it is, however often the platform starts.
    world.kill().await;
    world.start().await;
    world.create(shell("later", "true")).await;
    world.ended("later").await;
    assert_eq!(world.pods().get("runs-on").await.unwrap().status, pod.status);
}

#[tokio::test]
async fn a_killed_shim_is_an_unknown_end() {
    let world = World::new(Choice::Best).await;
    let pod = world.create(shell("p", "sleep 600")).await;
    world.until("p", is_running).await;
    let folder = shim::folder::Folder::at(world.data.path().join("pods").join(pod.metadata.uid.unwrap()));
    assert!(folder.read_processes().unwrap().shim.signal(9));
    let pod = world.ended("p").await;
    assert_eq!((end(&pod).0, end(&pod).1.as_str()), (137, "ContainerStatusUnknown"));
}

#[tokio::test]
async fn memory_beyond_the_limit_is_told_as_such() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 60");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    world.create(pod).await;
    let pod = world.ended("p").await;
    assert_eq!((end(&pod).0, end(&pod).1.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn plain_processes_serve_where_sandboxes_may_not() {
    let world = World::new(Choice::Process).await;
    let pod = world.create(shell("p", "echo $TMPDIR; echo $KUBEFLOW_MOUNTS")).await;
    let ended = world.ended("p").await;
    assert_eq!(phase(&ended), "Succeeded");
    let folder = world.data.path().join("pods").join(pod.metadata.uid.unwrap());
    assert!(world.log(&ended, "c", 0).starts_with(&folder.to_string_lossy().into_owned()));
}

#[tokio::test]
async fn down_ends_pods_without_a_platform() {
    let mut world = World::new(Choice::Best).await;
    let pod = world.create(shell("p", "sleep 600")).await;
    world.until("p", is_running).await;
    world.kill().await;
    let folder = shim::folder::Folder::at(world.data.path().join("pods").join(pod.metadata.uid.unwrap()));
    let known = folder.read_processes().unwrap();
    let data = world.data.path().to_owned();
    assert_eq!(node::down::down(&data), node::down::Ended { pods: 1, left: 0 });
    assert!(!known.shim.lives() && known.containers.iter().all(|(first, _)| !first.lives()));
}

#[tokio::test]
async fn events_are_a_kubelets() {
    let world = World::new(Choice::Best).await;
    world.create(shell("p", "true")).await;
    world.ended("p").await;
    let events: kube::Api<k8s_openapi::api::core::v1::Event> = kube::Api::namespaced(world.api.client(), NAMESPACE);
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let list = events.list(&Default::default()).await.unwrap();
        reasons = list.items.into_iter().filter_map(|event| event.reason).collect();
        tokio::task::yield_now().await;
    }
    reasons.sort();
    assert_eq!(reasons, ["Created", "Pulled", "Started"]);
}

#[tokio::test]
async fn probes_decide_about_ready_and_about_restarts() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "sleep 1; touch /tmp/ready; sleep 600");
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1});
    pod["spec"]["containers"][0]["livenessProbe"] =
        json!({"exec": {"command": ["false"]}, "initialDelaySeconds": 4, "periodSeconds": 1, "failureThreshold": 1});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    world.create(pod).await;
    let is_ready = |pod: &k8s_openapi::api::core::v1::Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
    };
    let running = world.until("p", is_running).await;
    assert!(!is_ready(&running));
    world.until("p", is_ready).await;
    let restarted = |pod: &k8s_openapi::api::core::v1::Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).any(|count| count > 0)
    };
    let pod = world.until("p", restarted).await;
    let last = pod.status.unwrap().container_statuses.unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 137);
}

#[tokio::test]
async fn a_missing_secret_holds_the_pod_until_it_is_there() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "cat /s/k");
    pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "late"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/s"}]);
    world.create(pod).await;
    let creating = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.status.as_ref().is_some_and(|status| status.container_statuses.is_some())
    };
    let pod = world.until("p", creating).await;
    assert_eq!(phase(&pod), "Pending");
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(world.api.client(), NAMESPACE);
    let secret = serde_json::from_value(json!({"metadata": {"name": "late"}, "data": {"k": "aGVyZQ=="}})).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let pod = world.ended("p").await;
    assert_eq!(world.log(&pod, "c", 0), "here");
}

#[tokio::test]
async fn a_container_runs_as_the_user_it_asks_for() {
    let world = World::new(Choice::Best).await;
    let mut pod = shell("p", "id -u; id -g; touch /tmp/file && stat -c %u /tmp/file; whoami");
    pod["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 2000});
    world.create(pod).await;
    let pod = world.ended("p").await;
    assert_eq!(world.log(&pod, "c", 0), "1000\n2000\n1000\nuser\n", "{:?}", pod.status);
}
