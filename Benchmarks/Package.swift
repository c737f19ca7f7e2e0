// swift-tools-version: 6.3
import PackageDescription

// A package of its own, so that nobody who uses SwiftSAF builds it.
let package = Package(
    name: "Benchmarks",
    dependencies: [.package(name: "SwiftSAF", path: "..")],
    targets: [
        .executableTarget(
            name: "microbench",
            dependencies: [
                .product(name: "SAFFoundationRooms", package: "SwiftSAF"),
                .product(name: "SAFEngineRooms", package: "SwiftSAF"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
    ]
)
