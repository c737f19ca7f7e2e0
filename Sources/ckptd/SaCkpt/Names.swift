import CSAF
import OSAL
import SAFHandles
import SAFTypes

/// SaNameT in both of its forms. Plain: length u16 · bytes. Extended, for text of 256 bytes and more, the header's
/// SA_EXTENDED_NAME_SOURCE: a mark where the length is, and the text's address 8 bytes from the beginning.
enum Names {
    private static let extendedMark: UInt16 = 0xCD2B
    private static let addressOffset = 8
    private static let plainMax = 256
    private static let extendedMax = 2_048
    /// What a name of B.02 begins with: the type of its first RDN.
    private static let prefix: StaticString = "safCkpt="

    /// Whether long names are allowed in this process.
    private static var areExtendedEnabled: Bool {
        guard let value = Environment.get("SA_ENABLE_EXTENDED_NAMES") else { return false }
        return Array(value.utf8) == [0x31]
    }

    /// The name a program passed. Throws `.invalidParam`, and `.tooBig` for a longer one than there can be.
    static func read(_ name: UnsafePointer<SaNameT>?, _ version: InterfaceVersion) throws(AisError) -> SaName {
        guard let name else { throw .invalidParam }
        let raw = UnsafeRawPointer(name)
        let length = raw.load(as: UInt16.self)
        let bytes: [UInt8]
        if length == extendedMark {
            bytes = try extended(raw, version)
        } else {
            guard length >= 1, length <= plainMax else { throw .invalidParam }
            bytes = Array(UnsafeRawBufferPointer(start: raw + 2, count: Int(length)))
        }
        if version == .b02, !hasPrefix(bytes) { throw .invalidParam }
        guard let name = SaName(bytes) else { throw version == .b02 ? .tooBig : .invalidParam }
        return name
    }

    private static func extended(_ raw: UnsafeRawPointer, _ version: InterfaceVersion) throws(AisError) -> [UInt8] {
        guard areExtendedEnabled, let text = address(raw) else { throw .invalidParam }
        var count = 0
        while count <= extendedMax, text[count] != 0 { count += 1 }
        guard count > 0 else { throw .invalidParam }
        guard count <= extendedMax else { throw version == .b02 ? .tooBig : .invalidParam }
        return Array(UnsafeBufferPointer(start: text, count: count))
    }

    private static func hasPrefix(_ bytes: [UInt8]) -> Bool {
        guard bytes.count > prefix.utf8CodeUnitCount else { return false }
        for index in 0..<prefix.utf8CodeUnitCount where bytes[index] != prefix.utf8Start[index] { return false }
        return true
    }

    private static func address(_ raw: UnsafeRawPointer) -> UnsafePointer<UInt8>? {
        UnsafePointer(bitPattern: raw.loadUnaligned(fromByteOffset: addressOffset, as: UInt.self))
    }

    static func lend(_ text: UnsafePointer<CChar>, to name: UnsafeMutablePointer<SaNameT>) {
        let raw = UnsafeMutableRawPointer(name)
        var count = 0
        while count < plainMax, text[count] != 0 { count += 1 }
        if count < plainMax {
            raw.storeBytes(of: UInt16(count), as: UInt16.self)
            (raw + 2).copyMemory(from: text, byteCount: count + 1)
        } else {
            raw.storeBytes(of: extendedMark, as: UInt16.self)
            raw.storeBytes(of: UInt(bitPattern: text), toByteOffset: addressOffset, as: UInt.self)
        }
    }

    /// Nil for what has no NUL behind it, and for a long name where those are not allowed.
    static func borrow(_ name: UnsafePointer<SaNameT>) -> UnsafePointer<CChar>? {
        let raw = UnsafeRawPointer(name)
        let length = raw.load(as: UInt16.self)
        if length == extendedMark {
            guard areExtendedEnabled, let text = address(raw) else { return nil }
            return UnsafeRawPointer(text).assumingMemoryBound(to: CChar.self)
        }
        guard length < plainMax, (raw + 2).load(fromByteOffset: Int(length), as: UInt8.self) == 0 else { return nil }
        return (raw + 2).assumingMemoryBound(to: CChar.self)
    }
}

@c @implementation
public func saAisNameLend(_ value: SaConstStringT!, _ name: UnsafeMutablePointer<SaNameT>!) {
    guard let value, let name else { return }
    Names.lend(value, to: name)
}

@c @implementation
public func saAisNameBorrow(_ name: UnsafePointer<SaNameT>!) -> SaConstStringT! {
    guard let name else { return nil }
    return Names.borrow(name)
}
