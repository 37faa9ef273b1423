//! Makes the test program play the hidden roles of the binary, before the test harness makes threads. Called by the C runtime.
#![allow(unsafe_code)] // a static in the list of functions that run before main

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn(libc::c_int, *const *const libc::c_char) = play;

extern "C" fn play(count: libc::c_int, values: *const *const libc::c_char) {
    use std::os::unix::ffi::OsStringExt;
    let argument = |index: usize| -> std::ffi::OsString {
        // SAFETY: the C runtime hands over `count` NUL-terminated strings.
        let text = unsafe { std::ffi::CStr::from_ptr(*values.add(index)) };
        std::ffi::OsString::from_vec(text.to_bytes().to_vec())
    };
    let arguments: Vec<std::ffi::OsString> = (0..count as usize).map(argument).collect();
    if arguments.first().and_then(|name| name.to_str()).is_some_and(node::pip_front::is_front) {
        node::pip_front::run(arguments);
    }
    if arguments.get(1).is_some_and(|word| word == "shim") {
        shim::main(&arguments[2..]);
    }
}
