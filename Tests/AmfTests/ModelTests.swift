import AmfProtocol
import SAFTypes
import Testing

@Suite("AMF model")
struct ModelTests {
    private func paths(_ change: (inout AmfModel) -> Void) -> [String] {
        var model = Models.twoN(components: 2)
        change(&model)
        return model.validate().map(\.path)
    }

    @Test("A good model has no errors, with and without the middleware")
    func good() {
        #expect(Models.twoN().validate().isEmpty)
        #expect(MiddlewareModel.merged(into: Models.noRedundancy(units: 3, instances: 2)).validate().isEmpty)
    }

    @Test("Dangling names are found where they stand")
    func dangling() {
        #expect(
            paths { $0.applications[0].serviceGroups[0].serviceUnits[1].node = "n9" }
                == ["applications[0].serviceGroups[0].serviceUnits[1].node"])
        #expect(
            paths { $0.applications[0].serviceInstances[0].serviceGroup = "X" }
                == ["applications[0].serviceInstances[0].serviceGroup"])
        #expect(
            paths { $0.applications[0].serviceInstances[0].csis[1].dependencies = ["X"] }
                == ["applications[0].serviceInstances[0].csis[1].dependencies[0]"])
        #expect(
            paths { $0.applications[0].serviceInstances[0].dependencies = [SIDependencyModel(sponsor: "X")] }
                == ["applications[0].serviceInstances[0].dependencies[0].sponsor"])
    }

    @Test("Duplicate names, unsupported CSI types, models not yet there, numbers out of range")
    func wrong() {
        #expect(
            paths { $0.applications[0].serviceGroups[0].serviceUnits[1].name = "SU1" }
                == ["applications[0].serviceGroups[0].serviceUnits[1]"])
        #expect(
            paths { $0.applications[0].serviceInstances[0].csis[0].type = "T9" } == [
                "applications[0].serviceInstances[0].csis[0].type", "applications[0].serviceInstances[0].csis[0].type",
            ], "neither unit supports it")
        for redundancy in [RedundancyModel.nPlusM, .nWay, .nWayActive] {
            #expect(
                paths { $0.applications[0].serviceGroups[0].redundancyModel = redundancy }
                    == ["applications[0].serviceGroups[0].redundancyModel"])
        }
        #expect(
            paths {
                $0.applications[0].serviceGroups[0].serviceUnits[0].components[0].timeouts.csiSet = .milliseconds(1)
            } == ["applications[0].serviceGroups[0].serviceUnits[0].components[0].timeouts.csiSet"])
        #expect(
            paths { $0.applications[0].serviceGroups[0].serviceUnits[0].components[1].command = "" }
                == ["applications[0].serviceGroups[0].serviceUnits[0].components[1].command"])
        #expect(paths { $0.nodes.append(NodeModel(name: "n2", id: NodeID(1))) } == ["nodes[1].id"])
        #expect(paths { $0.nodes = [] }.contains("nodes"))
    }

    @Test("The middleware's health checks: as often as the model says, or none; a model of version 1 has the default")
    func daemonHealthchecks() throws {
        var model = Models.twoN()
        func checks() -> [HealthcheckModel] {
            MiddlewareModel.merged(into: model).applications[0].serviceGroups[0].serviceUnits[0].components[0]
                .healthchecks
        }
        #expect(checks().map(\.period) == [.seconds(5)])
        model.daemonHealthcheckPeriod = .milliseconds(200)
        #expect(checks().map(\.period) == [.milliseconds(200)])
        #expect(try AmfModel(decoding: model.encoded) == model)
        var old = Array(model.encoded.dropLast(8))
        old[0] = 1
        #expect(try AmfModel(decoding: old).daemonHealthcheckPeriod == .seconds(5))
        model.daemonHealthcheckPeriod = .zero
        #expect(checks().isEmpty && model.validate().isEmpty)
        #expect(paths { $0.daemonHealthcheckPeriod = .microseconds(1) } == ["daemonHealthcheckPeriod"])
    }

    @Test("Circles of dependencies are found")
    func circles() {
        #expect(
            paths {
                $0.applications[0].serviceInstances[0].csis[0].dependencies = ["W12"]
                $0.applications[0].serviceInstances[0].csis[1].dependencies = ["W11"]
            } == ["applications[0].serviceInstances[0].csis[0].dependencies"])
        #expect(
            paths { $0.applications[0].serviceInstances[0].dependencies = [SIDependencyModel(sponsor: "SI1")] }
                == ["applications[0].serviceInstances[0].dependencies"])
    }

    @Test("Every error says what, where and what to do")
    func messages() {
        var model = Models.twoN()
        model.applications[0].serviceGroups[0].serviceUnits[1].node = "n9"
        model.applications[0].serviceInstances[0].serviceGroup = ""
        #expect(
            model.validate().map(\.description) == [
                "safSu=SU2,safSg=G,safApp=A: node \"n9\" does not exist; known: n1",
                "safSi=SI1,safApp=A: no service group protects it; name one of A: G",
            ])
    }
}
