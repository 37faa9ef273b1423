//! The system calls that no container needs: a deny-list, and `clone3` answered with ENOSYS. Installed last before exec.
//!
//! `clone3` hides its flags behind a pointer, which a filter cannot follow; libc falls back to `clone`, whose flags are seen.

use crate::error::{Failure, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// Refused with EPERM whatever the arguments.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_process_vm_writev,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
];

/// The namespaces that `clone` may not open.
const NEW_NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

/// Both filters, ready to be loaded. Built by the parent, so that the child only installs.
pub struct Filters(Vec<BpfProgram>);

/// Builds the filters for this machine's architecture.
pub fn build() -> Result<Filters> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for flag in NEW_NAMESPACES {
        let flag = *flag as u64;
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)
            .map_err(|_| refused("condition"))?;
        namespaces.push(SeccompRule::new(vec![condition]).map_err(|_| refused("rule"))?);
    }
    denied.insert(libc::SYS_clone, namespaces);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(Filters(vec![filter(denied, libc::EPERM)?, filter(clone3, libc::ENOSYS)?]))
}

/// Loads the filters into the calling process; `no_new_privs` is set already.
pub fn install(filters: &Filters) -> Result<()> {
    filters.0.iter().try_for_each(|program| {
        seccompiler::apply_filter(program).map_err(|_| Failure::last("install", "seccomp filter"))
    })
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| refused("architecture"))?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|_| refused("filter"))?;
    filter.try_into().map_err(|_| refused("program"))
}

fn refused(subject: &str) -> Failure {
    Failure::new("build seccomp", subject, libc::EINVAL)
}
