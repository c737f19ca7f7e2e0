/// The version of SwiftSAF, as every program tells it.
public enum SwiftSAFVersion {
    public static let text = "0.1.0"
}
