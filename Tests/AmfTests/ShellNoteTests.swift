import Testing

@testable import AmfShell

@Suite("What amfd says of itself")
struct ShellNoteTests {
    @Test("Warnings of the model say what is missing where, and what to do; a changed cluster.yaml is none of them")
    func modelWarnings() {
        let note = ShellNote.modelWarnings("app.yaml:7:5: command: there is no program /opt/bin/countre")
        #expect(note.level == .warning)
        #expect(note.text.contains("app.yaml:7:5: command: there is no program /opt/bin/countre"))
        #expect(note.text.contains("this node") && note.text.contains("saf admin repaired"))
        #expect(!ShellNote.descriptionChanged.text.contains("model"))
        #expect(ShellNote.descriptionChanged.level == .warning)
    }
}
