package kernel

// padFloats is one cache line.
const padFloats = 16

func roundUp(n, m int) int { return (n + m - 1) / m * m }
