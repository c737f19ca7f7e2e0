# The help of amfd as a manual page.
function quoted(text) {
    gsub(/\\/, "\\e", text); gsub(/-/, "\\-", text)
    if (text ~ /^[.']/) text = "\\&" text
    return text
}
NR == 1 {
    sub(/^[a-z]+: /, "")
    printf ".TH %s %s \"\" \"SwiftSAF %s\" \"SwiftSAF\"\n.SH NAME\n%s \\- %s\n", toupper(name), section, version, name, quoted($0)
    next
}
/^usage: / { print ".SH SYNOPSIS\n.nf"; sub(/^usage: /, ""); print quoted($0); isUsage = 1; next }
isUsage && /^ / { sub(/^ +/, ""); print quoted($0); next }
isUsage { print ".fi\n.SH DESCRIPTION"; isUsage = 0; next }
/^environment/ { print ".SH ENVIRONMENT"; sub(/^environment /, ""); sub(/:$/, ""); print quoted($0); next }
/^  --/ && !hasOptions { print ".SH OPTIONS"; hasOptions = 1 }
/^  [^ ]/ {
    sub(/^  /, ""); place = match($0, /  +| [^ ]*$/)
    place = match($0, /  +/); if (!place) place = match($0, / /)
    printf ".TP\n.B %s\n%s\n", quoted(substr($0, 1, place - 1)), quoted(substr($0, place + RLENGTH)); next
}
/^   / { sub(/^ +/, ""); print quoted($0); next }
/^$/ { print ".PP"; next }
{ print quoted($0) }
