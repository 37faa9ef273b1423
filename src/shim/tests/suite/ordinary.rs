//! The same tests once more as an ordinary user, where the suite runs as root: an id of its own, no home, no helper.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// An id that no machine gives to a person.
const USER: u32 = 64_321;

#[test]
fn everything_holds_for_an_ordinary_user() {
    if rustix::process::geteuid().as_raw() != 0 {
        return;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("suite");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test starts itself as somebody else")]
    let mut command = std::process::Command::new(program);
    let output = command
        .args(["--skip", "ordinary_user"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
