internal import COSAL
internal import Glibc

/// A system call that failed: which, on what, and why.
public struct OSError: Error, Sendable, Equatable {
    /// errno(3).
    public let code: Int32
    #if !SAF_LIBRARY
        /// The call, as its man page names it.
        public let call: StaticString
        /// What it was about (a path, a program), or why it was refused; empty when there is nothing to add.
        public let subject: SystemString
    #endif

    /// A C library has nobody to tell more than the code.
    @inline(__always)
    public init(code: Int32, call: StaticString, subject: @autoclosure () -> SystemString = "") {
        self.code = code
        #if !SAF_LIBRARY
            self.call = call
            self.subject = subject()
        #endif
    }

    /// The failure that this thread's last call left in errno.
    static func last(_ call: StaticString, _ subject: @autoclosure () -> SystemString = "") -> OSError {
        let code = errno
        return OSError(code: code, call: call, subject: subject())
    }

    /// EAGAIN: a non-blocking call had nothing to do.
    public var isWouldBlock: Bool { code == EAGAIN || code == EWOULDBLOCK }
    /// EINTR: a signal came first.
    public var isInterrupted: Bool { code == EINTR }
    /// ENOENT: there is no such file.
    public var isNotFound: Bool { code == ENOENT }
    /// EEXIST: there is one already.
    public var isExisting: Bool { code == EEXIST }
    /// ENOSPC or EDQUOT: the file system is full.
    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }
    /// ESRCH: there is no such process.
    public var isNoProcess: Bool { code == ESRCH }
    /// ECONNREFUSED, ENOENT: nobody listens at this address (now).
    public var isNobodyListening: Bool { code == ECONNREFUSED || code == ENOENT }
    /// EPIPE, ECONNRESET, ENOTCONN: the other side has gone.
    public var isPeerGone: Bool { code == EPIPE || code == ECONNRESET || code == ENOTCONN }
    /// EADDRINUSE: a living process has this address.
    public var isAddressInUse: Bool { code == EADDRINUSE }
    /// ENOMEM: this process can have no more memory, or none at all is left.
    public var isOutOfMemory: Bool { code == ENOMEM }
    /// EACCES or EPERM: not allowed.
    public var isNotPermitted: Bool { code == EACCES || code == EPERM }
}

#if !SAF_LIBRARY
    extension OSError: CustomStringConvertible {
        public static func == (left: OSError, right: OSError) -> Bool {
            left.code == right.code && left.call.description == right.call.description && left.subject == right.subject
        }

        public var description: String {
            let reason = OSError.reason(of: code)
            return subject.isEmpty ? "\(call): \(reason)" : "\(call) \(subject): \(reason)"
        }

        /// The text of an errno, as strerror(3) says it.
        public static func reason(of code: Int32) -> String { String(cString: strerror(code)) }
    }
#endif

/// Runs a call again while it is interrupted; its failure (-1) is thrown with errno.
///
/// Not for close(2), which must not be repeated.
@discardableResult
public func retrying<Result: SignedInteger & FixedWidthInteger>(
    _ call: StaticString, _ subject: @autoclosure () -> SystemString = "", _ body: () -> Result
) throws(OSError) -> Result {
    while true {
        let result = body()
        if result != -1 { return result }
        if errno != EINTR { throw OSError.last(call, subject()) }
    }
}

/// Like ``retrying(_:_:_:)``; nil where the call would have had to wait (EAGAIN).
func retryingUnlessBlocked(_ call: StaticString, _ body: () -> Int) throws(OSError) -> Int? {
    while true {
        let result = body()
        if result != -1 { return result }
        if errno == EAGAIN || errno == EWOULDBLOCK { return nil }
        if errno != EINTR { throw OSError.last(call) }
    }
}
