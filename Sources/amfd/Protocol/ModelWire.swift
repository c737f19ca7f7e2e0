import SAFTypes

// The byte form of the model: u16 version, then the fields in the order of the declarations; what a later version added
// comes at the end.

extension AmfModel: WireFields {
    public static let wireVersion: UInt16 = 2

    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.wireVersion)
        var copy = self
        var coder = FieldWriter(writer: writer)
        copy.fields(&coder)
        coder.duration(&copy.daemonHealthcheckPeriod)
        writer = coder.writer
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard (1...Self.wireVersion).contains(version) else {
            throw .badValue("model version \(version); 1 to \(Self.wireVersion) expected")
        }
        self.init()
        var coder = FieldReader(reader: reader)
        try fields(&coder)
        if version >= 2 { try coder.duration(&daemonHealthcheckPeriod) }
        reader = coder.reader
    }

    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&cluster)
        try coder.duration(&startupTimeout)
        try coder.raw(&adminState)
        try coder.list(&nodes)
        try coder.list(&applications)
    }
}

extension NodeModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.value(&id)
        try coder.raw(&adminState)
        try coder.integer(&suFailoverMax)
        try coder.duration(&suFailoverProbation)
        try coder.flag(&autoRepair)
    }
}

extension ApplicationModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.list(&serviceGroups)
        try coder.list(&serviceInstances)
    }
}

extension ServiceGroupModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.raw(&redundancyModel)
        try coder.flag(&autoRepair)
        try coder.flag(&autoAdjust)
        try coder.duration(&autoAdjustProbation)
        try coder.integer(&preferredInServiceSUs)
        try coder.integer(&preferredAssignedSUs)
        try coder.integer(&preferredActiveSUs)
        try coder.integer(&preferredStandbySUs)
        try coder.integer(&maxActiveSIsPerSU)
        try coder.integer(&maxStandbySIsPerSU)
        try coder.integer(&componentRestartMax)
        try coder.duration(&componentRestartProbation)
        try coder.integer(&suRestartMax)
        try coder.duration(&suRestartProbation)
        try coder.integer(&bootLevel)
        try coder.list(&serviceUnits)
    }
}

extension ServiceUnitModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.integer(&rank)
        try coder.text(&node)
        try coder.flag(&failover)
        try coder.list(&components)
    }
}

extension ComponentModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&category)
        try coder.text(&command)
        try coder.texts(&arguments)
        try coder.list(&environment)
        try coder.text(&workingDirectory)
        try coder.text(&user)
        try coder.text(&group)
        try coder.list(&limits)
        try coder.text(&cleanupCommand)
        try coder.texts(&cleanupArguments)
        try coder.integer(&instantiationLevel)
        try coder.value(&timeouts)
        try coder.integer(&instantiateWithoutDelayMax)
        try coder.integer(&instantiateWithDelayMax)
        try coder.duration(&instantiateDelay)
        try coder.raw(&recoveryOnError)
        try coder.flag(&disableRestart)
        try coder.list(&csiTypes)
        try coder.list(&healthchecks)
    }
}

extension EnvironmentVariable: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.text(&value)
    }
}

extension ResourceLimitModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.raw(&resource)
        try coder.integer(&soft)
        try coder.integer(&hard)
    }
}

extension ComponentTimeouts: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.duration(&instantiate)
        try coder.duration(&terminate)
        try coder.duration(&cleanup)
        try coder.duration(&csiSet)
        try coder.duration(&csiRemove)
        try coder.duration(&quiescingComplete)
    }
}

extension SupportedCSIType: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&capability)
        try coder.integer(&maxActive)
        try coder.integer(&maxStandby)
    }
}

extension HealthcheckModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&key)
        try coder.duration(&period)
        try coder.duration(&maxDuration)
    }
}

extension ServiceInstanceModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.integer(&rank)
        try coder.text(&serviceGroup)
        try coder.integer(&preferredActiveAssignments)
        try coder.integer(&preferredStandbyAssignments)
        try coder.list(&dependencies)
        try coder.list(&csis)
    }
}

extension SIDependencyModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&sponsor)
        try coder.duration(&toleranceTime)
    }
}

extension CSIModel: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.text(&type)
        try coder.integer(&rank)
        try coder.list(&attributes)
        try coder.texts(&dependencies)
    }
}

extension CSIAttribute: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&name)
        try coder.text(&value)
    }
}
