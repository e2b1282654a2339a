# Shortens the computed jumps of the interpreter's loop in Thumb-2 assembly.
#
# GCC forms the address of a label without the Thumb bit and sets it before each jump. With the bit in the table,
#     ldr rA, [rB, rC] / orr rA, rA, #1 / bx rA      becomes      ldr pc, [rB, rC]
# Only entries of the table named `table` get the bit; a jump that is left as it was works as before.
{
    line[NR] = $0
}
END {
    for (i = 1; i <= NR; i++) {
        text = line[i]
        if (text ~ /^table\.[0-9]+:/) { inside = 1 }
        else if (inside && text ~ /^\t\.(word|4byte)\t\.L/) { text = text "+1"; entries++ }
        else if (inside && text !~ /^\t\.(word|4byte)/) { inside = 0 }
        if (text ~ /^\torr(\.w)?\tr[0-9]+, r[0-9]+, #1$/) {
            split(text, part, /[\t, ]+/)
            register = part[3]
            for (k = i + 1; k <= i + 6 && line[k] !~ /^\tbx\t/; k++) { }
            if (part[4] == register && line[k] == "\tbx\t" register) {
                pattern = "^\tldr(\\.w)?\t" register ", \\[r[0-9]+, r[0-9]+\\]$"
                for (j = kept; j > kept - 3 && out[j] ~ /^\t@|^\t\.loc|^$/; j--) { }
                clear = 1
                for (m = i + 1; m < k; m++) { if (line[m] !~ /^\t@|^$/) clear = 0 }
                if (out[j] ~ pattern && clear) {
                    sub("\t" register ", ", "\tpc, ", out[j])
                    sub(/^\tldr\t/, "\tldr.w\t", out[j])
                    i = k
                    merged++
                    continue
                }
                shortened++
                continue
            }
        }
        out[++kept] = text
    }
    for (i = 1; i <= kept; i++) { print out[i] }
    if (entries == 0 || merged == 0) { print "thumb-dispatch: no table or no jump found" > "/dev/stderr"; exit 1 }
    printf "thumb-dispatch: %d entries, %d jumps merged, %d shortened\n", entries, merged, shortened > "/dev/stderr"
}
