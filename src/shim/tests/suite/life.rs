//! What a box shows and hides, how ends are recorded, and what a lost shim takes with it.

use crate::world::{World, eventually, running, text, wait};
use sandbox::process::Identity;
use sandbox::spec::{Isolation, Mount, Source};
use shim::protocol::{Cause, Reply, Request};

#[test]
fn a_box_shows_only_what_is_listed() {
    let world = World::new(Isolation::Sandbox);
    let script = "echo hello; hostname; id -u; ls /; ls /home 2>/dev/null; echo $$; touch /usr/x 2>/dev/null || echo read-only; pwd";
    let (code, said) = world.run(world.shell(script));
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["hello", "inside", "0"], "{said}");
    assert!(!said.contains("home") && !said.contains("root"), "{said}");
    assert!(said.contains("\n1\n") && said.contains("read-only\n") && said.ends_with("/work\n"), "{said}");
}

#[test]
fn exit_codes_signals_and_missing_programs() {
    let world = World::new(Isolation::Sandbox);
    assert_eq!(world.run(world.shell("exit 7")).0, 7);
    let mut missing = world.container("missing", &["/nonesuch"]);
    missing.attempt = 3;
    let mut client = world.connect();
    client.send(&Request::Start(Box::new(missing))).unwrap();
    let end =
        wait(&mut client, |state| state.containers.last().filter(|last| last.container == "missing")?.end.clone());
    assert_eq!((end.code, end.cause), (128, Cause::NoProgram));
    assert!(end.message.unwrap().contains("/nonesuch"));
    assert!(shim::exit::find(&world.folder, "missing", 3).is_some());
}

#[test]
fn an_exit_code_is_there_for_whoever_comes_later() {
    let world = World::new(Isolation::Sandbox);
    let mut first = world.connect();
    first.send(&Request::Start(Box::new(world.shell("exec sleep 0.2; exit 9")))).unwrap();
    wait(&mut first, running);
    drop(first); // as if the platform had been killed
    eventually("exit record", || shim::exit::find(&world.folder, "main", 0).is_some());
    let mut second = world.connect();
    second.send(&Request::State).unwrap();
    let end = wait(&mut second, |state| state.containers.first()?.end.clone());
    assert_eq!(Some(end), shim::exit::find(&world.folder, "main", 0));
}

#[test]
fn the_pod_dies_with_its_shim() {
    let world = World::new(Isolation::Sandbox);
    let mut client = world.connect();
    client.send(&Request::Start(Box::new(world.shell("sleep 600 & sleep 600")))).unwrap();
    let first = wait(&mut client, running).process.unwrap();
    let tree: Vec<Identity> = sandbox::process::tree(first.pid).into_iter().filter_map(Identity::of).collect();
    assert!(world.folder.read_processes().unwrap().shim.signal(9));
    eventually("all gone", || tree.iter().all(|process| !process.lives()));
    assert!(shim::exit::find(&world.folder, "main", 0).is_none());
}

#[test]
fn a_volume_is_shared_and_a_link_in_it_cannot_lead_out() {
    let world = World::new(Isolation::Sandbox);
    let volume = world.temporary.path().join("volume");
    std::fs::create_dir_all(volume.join("etc")).unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("escape")).unwrap();
    let mut start =
        world.shell("echo text > /data/file; ls /escape-target; cat /layer/below; echo new > /layer/above; ls /layer");
    std::fs::create_dir_all(world.temporary.path().join("lower")).unwrap();
    std::fs::write(world.temporary.path().join("lower/below"), "from below\n").unwrap();
    start.spec.mounts.push(Mount::writable(&volume, "/data"));
    start.spec.mounts.push(Mount {
        target: "/escape-target".into(),
        source: Source::Bind { path: volume.clone(), sub_path: Some("escape/deeper".into()) },
        read_only: false,
    });
    let source = Source::Overlay { lower: world.temporary.path().join("lower"), upper_bytes: 1 << 20 };
    start.spec.mounts.push(Mount { target: "/layer".into(), source, read_only: false });
    let (code, said) = world.run(start);
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "text\n");
    assert!(volume.join("etc/deeper").is_dir(), "the link was resolved inside the volume");
    assert!(said.ends_with("from below\nabove\nbelow\n"), "{said}");
    assert!(!world.temporary.path().join("lower/above").exists());
}

#[test]
fn dangerous_calls_are_refused() {
    let world = World::new(Isolation::Sandbox);
    let (_, said) = world.run(world.shell(
        "unshare -U true; mount -t tmpfs none /tmp; grep -E 'CapEff|NoNewPrivs|Seccomp:|THP' /proc/self/status",
    ));
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"), "{said}");
    assert!(said.to_lowercase().contains("unshare failed"), "{said}");
    assert!(!said.contains("THP_enabled:\t0"), "{said}");
}

#[test]
fn too_much_memory_ends_as_out_of_memory() {
    let world = World::new(Isolation::Sandbox);
    let mut start = world.shell("x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 60");
    start.memory_bytes = Some(64 << 20);
    let mut client = world.connect();
    client.send(&Request::Start(Box::new(start))).unwrap();
    let end = wait(&mut client, |state| state.containers.first()?.end.clone());
    assert_eq!((end.code, end.cause), (137, Cause::OutOfMemory), "{}", text(&world.folder.log("main", 0)));
}

#[test]
fn commands_run_inside_and_late_ones_are_ended() {
    for isolation in [Isolation::Sandbox, Isolation::Process] {
        let world = World::new(isolation);
        let mut client = world.connect();
        client.send(&Request::Start(Box::new(world.shell("sleep 600")))).unwrap();
        wait(&mut client, running);
        let mut exec = |id: u64, script: &str, timeout_ms: u64| {
            let argv = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
            client.send(&Request::Exec { id, container: "main".into(), argv, timeout_ms }).unwrap();
            loop {
                if let Reply::Exec { id: answered, code, output } = client.hear().unwrap() {
                    assert_eq!(answered, id);
                    return (code, output);
                }
            }
        };
        assert_eq!(exec(1, "echo in; exit 5", 30_000), (5, "in\n".to_owned()));
        assert_eq!(exec(2, "sleep 600", 50).0, -1);
    }
}

#[test]
fn plain_processes_end_with_what_they_left_behind() {
    let world = World::new(Isolation::Process);
    let (code, said) = world.run(world.shell("(sleep 600 & echo $!); exit 3"));
    assert_eq!(code, 3);
    let orphan: i32 = said.trim().parse().unwrap();
    eventually("orphan ended", || Identity::of(orphan).is_none());
}

#[test]
fn the_probe_agrees_with_what_the_tests_do() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let report = sandbox::support::ask(&program, &["shim", "probe"], folder.path());
    assert!(report.sandbox && report.overlay, "{report:?}");
}
