//! A run folder, a shim and the boxes that tests start in it. Everything is ended when the world is dropped.

use sandbox::spec::{Isolation, Limits, Mount, Source, Spec};
use shim::client::Client;
use shim::folder::Folder;
use shim::protocol::{Container, Pod, Request, Start, State};
use std::path::Path;
use std::time::{Duration, Instant};

/// However loaded the machine is.
const LIMIT: Duration = Duration::from_secs(60);

pub struct World {
    pub temporary: tempfile::TempDir,
    pub folder: Folder,
    pub isolation: Isolation,
}

impl World {
    pub fn new(isolation: Isolation) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        // Longer than a socket path may be.
        let folder = Folder::at(temporary.path().join("a".repeat(60)).join("b".repeat(60)));
        let pod = Pod {
            namespace: "kubeflow".into(),
            name: "p".into(),
            uid: "u".into(),
            hostname: "inside".into(),
            isolation,
            boot_id: sandbox::process::boot_id(),
        };
        folder.create(&pod).unwrap();
        let program = std::env::current_exe().unwrap();
        shim::client::start(&program, &["shim".to_owned()], &folder).unwrap();
        Self { temporary, folder, isolation }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.folder).unwrap().0
    }

    pub fn shell(&self, script: &str) -> Start {
        self.container("main", &["sh", "-c", script])
    }

    pub fn container(&self, name: &str, argv: &[&str]) -> Start {
        let mut mounts = vec![Mount::read_only("/usr", "/usr")];
        for name in ["bin", "lib", "lib64", "sbin"] {
            let path = Path::new("/").join(name);
            match std::fs::read_link(&path) {
                Ok(to) => mounts.push(Mount::link(path, to)),
                Err(_) if path.exists() => mounts.push(Mount::read_only(path.clone(), path)),
                Err(_) => {}
            }
        }
        let special = |target: &str, source: Source| Mount { target: target.into(), source, read_only: false };
        mounts.push(special("/proc", Source::Proc));
        mounts.push(special("/dev", Source::Devices { shm_bytes: 1 << 20 }));
        mounts.push(special("/tmp", Source::Folder { mode: 0o1777 }));
        Start {
            container: name.into(),
            attempt: 0,
            spec: Spec {
                isolation: self.isolation,
                root: self.folder.root(name),
                root_bytes: 8 << 20,
                read_only_root: false,
                mounts,
                argv: argv.iter().map(|text| (*text).to_owned()).collect(),
                env: vec![("PATH".into(), "/usr/bin:/bin".into())],
                cwd: if self.isolation == Isolation::Process {
                    self.temporary.path().join("cwd")
                } else {
                    "/work".into()
                },
                user: 0,
                group: 0,
                limits: Limits::default(),
                seccomp: self.isolation == Isolation::Sandbox,
            },
            log: self.folder.log(name, 0),
            memory_bytes: None,
        }
    }

    /// Starts a container and waits for its end: exit code and the text of its log.
    pub fn run(&self, start: Start) -> (i32, String) {
        let log = start.log.clone();
        let mut client = self.connect();
        client.send(&Request::Start(Box::new(start))).unwrap();
        let ended = wait(&mut client, |state| state.containers.last()?.end.clone());
        (ended.code, text(&log) + ended.message.as_deref().unwrap_or_default())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Ok((mut client, _)) = Client::connect(&self.folder) {
            let _ = client.send(&Request::Release);
            while client.hear().is_ok() {}
        }
    }
}

/// The text of a log without its heads; the message of a missing file otherwise.
pub fn text(log: &Path) -> String {
    let lines = std::fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    lines.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect()
}

/// Waits for a state in which `found` finds something.
pub fn wait<T>(client: &mut Client, found: impl Fn(&State) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        let state = client.state().unwrap();
        if let Some(value) = found(&state) {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "last state: {state:?}");
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        std::thread::yield_now();
    }
}

/// The running container of a state.
pub fn running(state: &State) -> Option<Container> {
    state.containers.iter().find(|container| container.process.is_some()).cloned()
}
