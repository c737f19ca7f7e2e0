import CliProtocol
import SAFTypes
import Testing

@Suite("cliserver on the wire")
struct CliWireTests {
    @Test("Registrations")
    func registrations() {
        checkWire(
            OwnerDescription(
                name: "clmd", kind: .daemon, pid: 258, commands: [CommandSpec(name: "nodes", help: "Lists.")]),
            golden: """
                04000000 636c6d64          name
                01 02010000                kind, pid
                01000000                   one command
                05000000 6e6f646573        its name
                06000000 4c697374732e      help
                00000000                   no arguments
                """.split(separator: "\n").map { String($0.prefix(27)) }.joined())
        for type: ArgumentType in [.text, .integer, .integer(1...9), .boolean, .duration, .name, .choice(["a", "b"])] {
            checkWire(type)
            checkWire(ArgumentSpec("x", type, optional: true, repeated: true, help: "h"))
        }
        checkWire(ArgumentType.choice(["on"]), golden: "06 01000000 02000000 6f6e")
        checkWire(ArgumentType.integer(1...2), golden: "02 0100000000000000 0200000000000000")
    }

    @Test("Executions")
    func executions() {
        checkWire(
            ExecuteRequest(words: ["a", "bc"], format: .json, timeLimit: .milliseconds(1_500)),
            golden: "02 dc050000 02000000 01000000 61 02000000 6263")
        checkWire(
            Invocation(id: 1, format: .text, command: "c", arguments: ["d"]),
            golden: "0100000000000000 01 01000000 63 01000000 01000000 64")
        checkWire(CommandResult(invocation: 2, status: .failed, text: "t"), golden: "0200000000000000 01 01000000 74")
        checkWire(CommandPage(status: .done, text: "t", continuation: 3), golden: "00 01000000 74 0300000000000000")
        checkWire(PageRequest(continuation: 3), golden: "0300000000000000")
        checkWire(OwnerList(owners: []), golden: "00000000")
    }

    @Test("A reversed range and unknown kinds are refused")
    func refused() {
        #expect(throws: DecodeError.self) { try ArgumentType(decoding: [7]) }
        #expect(throws: DecodeError.self) {
            try ArgumentType(decoding: [2] + [2, 0, 0, 0, 0, 0, 0, 0] + [1, 0, 0, 0, 0, 0, 0, 0])
        }
    }
}

@Suite("Console lines and names")
struct ConsoleTextTests {
    @Test(
        "Words are split as a shell splits them",
        arguments: [
            ("  a  bc ", ["a", "bc"]), ("a 'b c' \"d 'e\"", ["a", "b c", "d 'e"]),
            ("a\\ b \"c\\\"d\"", ["a b", "c\"d"]),
            ("a '' # rest", ["a", ""]), ("", []), ("a#b", ["a#b"]), ("# a", []),
        ])
    func words(line: String, expected: [String]) throws {
        #expect(try ConsoleLine.words(of: line) == expected)
        #expect(try ConsoleLine.words(of: expected.map(ConsoleLine.quoted).joined(separator: " ")) == expected)
    }

    @Test("An open quote is an error", arguments: ["'a", "a \"b", "a\\"])
    func openQuote(line: String) { #expect(throws: ConsoleLine.Defect.self) { try ConsoleLine.words(of: line) } }

    private let names = [
        "safSu=SU1,safSg=WC,safApp=wordcount", "safSu=SU2,safSg=WC,safApp=wordcount",
        "safSu=SU1,safSg=Other,safApp=shop",
        "safSg=WC,safApp=wordcount", "safApp=wordcount",
    ]

    @Test("Short forms of names")
    func shortForms() {
        #expect(NameMatching.find("SU2", among: names) == .found(names[1]))
        #expect(NameMatching.find("su2", among: names) == .found(names[1]))
        #expect(NameMatching.find("WC/SU1", among: names) == .found(names[0]))
        // A node goes before what is called like it, and the first group in which anything fits decides.
        let node = "safAmfNode=SU1,safAmfCluster=c"
        #expect(NameMatching.find("SU1", inOrder: [[node], names]) == .found(node))
        #expect(NameMatching.find("SU2", inOrder: [[node], names]) == .found(names[1]))
        #expect(NameMatching.find("SU9", inOrder: [[node], []]) == .unknown(nearest: [node]))
        #expect(NameMatching.find("wordcount/SU1", among: names) == .found(names[0]))
        #expect(NameMatching.find("shop/Other/SU1", among: names) == .found(names[2]))
        #expect(NameMatching.find("safSu=SU2", among: names) == .found(names[1]))
        #expect(NameMatching.find("safSg=WC", among: names) == .found(names[3]))
        #expect(NameMatching.find(names[0], among: names) == .found(names[0]))
        #expect(NameMatching.find("SU1", among: names) == .ambiguous([names[2], names[0]]))
        #expect(NameMatching.shortForm(of: names[0], among: names) == "WC/SU1")
        #expect(NameMatching.shortForm(of: names[1], among: names) == "SU2")
    }

    @Test("A wrong name brings the nearest")
    func nearest() {
        #expect(NameMatching.find("wordcuont", among: names) == .unknown(nearest: ["safApp=wordcount"]))
        #expect(NameMatching.find("SU9", among: names) == .unknown(nearest: [names[2], names[0], names[1]]))
        #expect(NameMatching.find("zzzzzz", among: names) == .unknown(nearest: []))
        #expect(NameMatching.nearest(to: "comand", among: ["command", "comment", "period"]) == ["command"])
        #expect(NameMatching.find("", among: names) == .unknown(nearest: []))
    }

    @Test("JSON escapes what must be escaped and keeps order")
    func json() {
        let value: JSONValue = ["b": "\"\\\n\u{1}é", "a": [1, true, nil], "e": [], "n": .number(.infinity)]
        #expect(value.text() == #"{"b":"\"\\\n\u0001é","a":[1,true,null],"e":[],"n":null}"#)
        #expect(
            value.text(pretty: true) == """
                {
                  "b": "\\"\\\\\\n\\u0001é",
                  "a": [
                    1,
                    true,
                    null
                  ],
                  "e": [],
                  "n": null
                }
                """)
    }
}
