//go:build !(cgo && linux)

package linalg

const hasNative = false

func nativeProduct(Matrix, float64, operand, operand) {
	panic("linalg: no native product in this build")
}

func reflectRows(v []float64, tau float64, c Matrix, w []float64) {
	if c.C > 0 && c.R > 0 && tau != 0 {
		plainReflectRows(v[:c.R], tau, c, w[:c.C])
	}
}

func reflectColumns(v []float64, tau float64, c Matrix) {
	if c.C > 0 && c.R > 0 && tau != 0 {
		plainReflectColumns(v[:c.C], tau, c)
	}
}
