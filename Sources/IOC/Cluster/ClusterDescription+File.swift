public import OSAL
import SAFTypes

/// Why a node does not know its cluster.
public struct ClusterDescriptionError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

extension ClusterDescription {
    /// `$SAF_RUN_DIR/cluster`.
    public static func path(_ places: Places) -> String { places.runDirectory + "/cluster" }

    /// The description of this node's cluster; ``alone(_:name:)`` when there is no file, with the number in
    /// `SAF_NODE_ID` (1 if unset) and the places' node name.
    ///
    /// - Throws: the file is there and cannot be read or is damaged, or `SAF_NODE_ID` is no number of a node.
    public static func load(_ places: Places) throws(ClusterDescriptionError) -> ClusterDescription {
        let path = path(places)
        let bytes: [UInt8]
        do throws(OSError) {
            bytes = try File.readAll(path, limit: 1 << 20)
        } catch {
            guard error.isNotFound else { throw ClusterDescriptionError("\(path) cannot be read: \(error)") }
            return try aloneByEnvironment(places, Environment.get("SAF_NODE_ID"))
        }
        do throws(DecodeError) {
            return try ClusterDescription(decoding: bytes)
        } catch {
            throw ClusterDescriptionError("\(path) is no cluster description: \(error)")
        }
    }

    static func aloneByEnvironment(_ places: Places, _ number: String?) throws(ClusterDescriptionError)
        -> ClusterDescription
    {
        guard let name = SaName(places.nodeName) else {
            throw ClusterDescriptionError("node name \"\(places.nodeName)\": 1 to \(SaName.lengthMax) octets expected")
        }
        guard let number, !number.isEmpty else { return .alone(name: name) }
        guard let id = UInt32(number), id > 0 else {
            throw ClusterDescriptionError("SAF_NODE_ID=\(number): a number from 1 expected")
        }
        return .alone(NodeID(id), name: name)
    }

    /// Replaces the file: a reader, or a power failure at any moment, sees the old one or the new.
    public func save(_ places: Places) throws(OSError) {
        try File.makeDirectories(places.runDirectory)
        try File.writeAtomically(Self.path(places), encoded, durable: true)
    }
}
