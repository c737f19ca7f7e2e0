#if hasFeature(Embedded)
    // What Swift's own module Glibc says otherwise than C; Embedded Swift comes without it (see CShim/glibc).
    internal import COSAL
    internal import Glibc

    var errno: Int32 { __errno_location().pointee }

    let S_IFMT: mode_t = 0o170000
    let S_IFDIR: mode_t = 0o040000
    let S_IFLNK: mode_t = 0o120000
    let S_IFSOCK: mode_t = 0o140000
    let S_IFIFO: mode_t = 0o010000
    let S_IFCHR: mode_t = 0o020000
    let S_IFBLK: mode_t = 0o060000
#endif
