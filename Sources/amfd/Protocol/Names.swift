import SAFTypes

/// Distinguished names of AMF entities, built from the names in the model. Source: SAI-AIS-AMF-B.02.01 §3.1, §9.
public enum DN {
    public static func cluster(_ cluster: String) -> SaName { name("safAmfCluster=\(escaped(cluster))") }
    public static func node(_ node: String, cluster: String) -> SaName {
        name("safAmfNode=\(escaped(node)),safAmfCluster=\(escaped(cluster))")
    }
    public static func application(_ application: String) -> SaName { name("safApp=\(escaped(application))") }
    public static func serviceGroup(_ group: String, in application: SaName) -> SaName {
        child("safSg", group, of: application)
    }
    public static func serviceUnit(_ unit: String, in group: SaName) -> SaName { child("safSu", unit, of: group) }
    public static func component(_ component: String, in unit: SaName) -> SaName {
        child("safComp", component, of: unit)
    }
    public static func serviceInstance(_ instance: String, in application: SaName) -> SaName {
        child("safSi", instance, of: application)
    }
    public static func csi(_ csi: String, in instance: SaName) -> SaName { child("safCsi", csi, of: instance) }

    /// The first relative name's value: "C1" of "safComp=C1,safSu=…"; the whole name when there is no "=".
    public static func shortName(_ dn: SaName) -> String {
        let first = split(dn).first ?? dn.bytes[...]
        guard let equals = first.firstIndex(of: UInt8(ascii: "=")) else {
            return String(decoding: first, as: UTF8.self)
        }
        let value = first[(equals + 1)...]
        return String(decoding: unescaped(value), as: UTF8.self)
    }

    /// The type of the first relative name: "safComp" of "safComp=C1,safSu=…".
    public static func type(_ dn: SaName) -> String {
        guard let equals = dn.bytes.firstIndex(of: UInt8(ascii: "=")) else { return "" }
        return String(decoding: dn.bytes[..<equals], as: UTF8.self)
    }

    /// The name without its first relative name, or nil for a root.
    public static func parent(_ dn: SaName) -> SaName? {
        let parts = split(dn)
        guard parts.count > 1 else { return nil }
        return SaName(Array(dn.bytes[parts[1].startIndex...]))
    }

    /// Whether a name can be one relative name's value: 1…64 octets, printable.
    static func isLegalValue(_ value: String) -> Bool {
        let bytes = value.utf8
        return !bytes.isEmpty && bytes.count <= 64 && bytes.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    private static func child(_ type: String, _ value: String, of parent: SaName) -> SaName {
        name("\(type)=\(escaped(value)),\(parent)")
    }

    /// Cut at the SaName limit: validate() refuses a model with such a name, this only keeps building a name total.
    private static func name(_ text: String) -> SaName {
        SaName(Array(text.utf8.prefix(SaName.lengthMax))) ?? SaName([UInt8(ascii: "?")])!  // one octet is legal
    }

    private static func escaped(_ value: String) -> String {
        var result = ""
        for scalar in value.unicodeScalars {
            if scalar == "," || scalar == "\\" { result.unicodeScalars.append("\\") }
            result.unicodeScalars.append(scalar)
        }
        return result
    }

    private static func unescaped(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        var isEscaped = false
        for byte in bytes {
            if byte == UInt8(ascii: "\\"), !isEscaped { isEscaped = true; continue }
            result.append(byte)
            isEscaped = false
        }
        return result
    }

    private static func split(_ dn: SaName) -> [ArraySlice<UInt8>] {
        var parts: [ArraySlice<UInt8>] = []
        var start = dn.bytes.startIndex
        var isEscaped = false
        for (index, byte) in dn.bytes.enumerated() {
            if isEscaped { isEscaped = false; continue }
            if byte == UInt8(ascii: "\\") { isEscaped = true; continue }
            if byte == UInt8(ascii: ",") {
                parts.append(dn.bytes[start..<index])
                start = index + 1
            }
        }
        parts.append(dn.bytes[start...])
        return parts
    }
}
