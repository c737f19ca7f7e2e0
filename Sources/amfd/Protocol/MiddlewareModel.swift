import SAFTypes

/// The middleware's own services as AMF entities: one application per service, in it one no-redundancy service group
/// per node with one service unit, and one service instance each.
public enum MiddlewareModel {
    public struct Service: Hashable, Sendable {
        public let application: String
        /// The program's name, also that of the component and the CSI.
        public let program: String
        public let bootLevel: UInt8
    }

    /// In the order of their start.
    public static let services = [
        Service(application: "safClmService", program: "clmd", bootLevel: 1),
        Service(application: "safLogService", program: "logd", bootLevel: 1),
        Service(application: "safCkptService", program: "ckptd", bootLevel: 2),
        Service(application: "safEvtService", program: "eventd", bootLevel: 2),
        Service(application: "safCliService", program: "cliserver", bootLevel: 3),
    ]

    public static func isMiddleware(_ application: String) -> Bool {
        services.contains { $0.application == application }
    }

    /// `model` with the middleware on each of its nodes, first in the list of applications.
    ///
    /// - Parameter directory: where the programs are; empty: beside amfd.
    public static func merged(into model: AmfModel, directory: String = "") -> AmfModel {
        var result = model
        result.applications =
            services.map { application($0, model, directory) }
            + model.applications.filter { !isMiddleware($0.name) }
        return result
    }

    private static func application(_ service: Service, _ model: AmfModel, _ directory: String) -> ApplicationModel {
        var application = ApplicationModel(name: service.application)
        for node in model.nodes {
            var group = ServiceGroupModel(name: node.name, .noRedundancy)
            group.bootLevel = service.bootLevel
            // A daemon may be killed as often as anybody likes: it is restarted, and nothing else is disturbed.
            group.componentRestartMax = .max
            var unit = ServiceUnitModel(name: node.name, node: node.name, rank: 1)
            unit.components = [component(service, model.daemonHealthcheckPeriod, directory)]
            group.serviceUnits = [unit]
            application.serviceGroups.append(group)
            var instance = ServiceInstanceModel(name: node.name, serviceGroup: node.name)
            instance.csis = [CSIModel(name: service.program, type: service.program)]
            application.serviceInstances.append(instance)
        }
        return application
    }

    private static func component(_ service: Service, _ period: Duration, _ directory: String) -> ComponentModel {
        let command = directory.isEmpty ? service.program : "\(directory)/\(service.program)"
        var component = ComponentModel(name: service.program, command: command)
        component.recoveryOnError = .componentRestart
        component.csiTypes = [SupportedCSIType(service.program, .xActive)]
        if period != .zero {
            component.healthchecks = [
                HealthcheckModel(key: healthcheckKey, period: period, maxDuration: .seconds(10))
            ]
        }
        // A node without one of its services is worth little: it is tried for ever, slowly.
        component.instantiateWithoutDelayMax = 2
        component.instantiateWithDelayMax = .max
        component.instantiateDelay = .seconds(1)
        component.timeouts = ComponentTimeouts(all: .seconds(10))
        return component
    }

    /// The AMF-invoked health check that every daemon answers, if the model has one.
    public static let healthcheckKey = "daemon"
}
