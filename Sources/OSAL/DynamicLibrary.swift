internal import Glibc

/// A shared library opened at run time, for software that only some nodes have. Stays open as long as the process.
public struct DynamicLibrary: @unchecked Sendable {
    private let handle: UnsafeMutableRawPointer
    private let name: String

    /// - Parameter name: with its version (`libcpg.so.4`), found as ld.so(8) finds libraries.
    /// - Throws: ENOENT with what dlerror(3) says.
    public init(_ name: String) throws(OSError) {
        guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { throw Self.failure("dlopen", name) }
        self.handle = handle
        self.name = name
    }

    /// A function of the library. `Function` must be its C type (`@convention(c)`): nothing can check it.
    public func function<Function>(_ symbol: String, as type: Function.Type = Function.self) throws(OSError) -> Function
    {
        precondition(MemoryLayout<Function>.size == MemoryLayout<UnsafeMutableRawPointer>.size)
        guard let address = dlsym(handle, symbol) else { throw Self.failure("dlsym", "\(symbol) in \(name)") }
        return unsafeBitCast(address, to: Function.self)
    }

    private static func failure(_ call: StaticString, _ subject: String) -> OSError {
        let text = dlerror().map { String(cString: $0) } ?? subject
        return OSError(code: ENOENT, call: call, subject: text)
    }
}
