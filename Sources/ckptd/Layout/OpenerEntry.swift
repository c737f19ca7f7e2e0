public import CkptProtocol
import OSAL
public import SAFTypes

/// The head of an entry in the opener table; behind it the requests executed for this opener, number u64 · change u64.
///
/// state u32 · pid u32 · session 2 × u64 · handle u64 · open number u64 · process start u64 · flags u32 · node u32 ·
/// 0 u32 · crc u32.
public enum OpenerEntry {
    public static func encode(_ opener: OpenerRecord?, to writer: inout ByteWriter) {
        let start = writer.count
        if let opener {
            writer.integer(UInt32(1))
            writer.integer(opener.processID)
            writer.integer(opener.session.high)
            writer.integer(opener.session.low)
            writer.integer(opener.handle.rawValue)
            writer.integer(opener.openNumber)
            writer.integer(opener.processStart)
            writer.integer(opener.flags.rawValue)
            writer.value(opener.node)
        }
        while writer.count - start < Layout.openerHeadBytes - 4 { writer.integer(UInt32(0)) }
        writer.integer(
            writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) })
    }

    public static func decode(_ bytes: UnsafeRawBufferPointer, _ what: @autoclosure () -> String) throws(StoreError)
        -> OpenerRecord?
    {
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[0..<Layout.openerHeadBytes]))
        let stored = UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: Layout.openerHeadBytes - 4, as: UInt32.self))
        do throws(DecodeError) {
            let state = try reader.integer(UInt32.self)
            let processID = try reader.integer(UInt32.self)
            let session = ClientSession(high: try reader.integer(), low: try reader.integer())
            let handle = HandleID(rawValue: try reader.integer())
            let number = try reader.integer(UInt64.self)
            let start = try reader.integer(UInt64.self)
            let flags = OpenFlags(rawValue: try reader.integer())
            let node = try reader.value(NodeID.self)
            if state == 0 { return nil }
            guard state == 1,
                crc32c(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.openerHeadBytes - 4)])) == stored
            else { throw .badValue("checksum") }
            return OpenerRecord(
                session: session, handle: handle, openNumber: number, processID: processID, processStart: start,
                flags: flags, node: node)
        } catch {
            throw .damaged("\(what()): \(error)")
        }
    }
}
