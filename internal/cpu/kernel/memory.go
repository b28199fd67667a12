package kernel

func roundUp(n, m int) int { return (n + m - 1) / m * m }
