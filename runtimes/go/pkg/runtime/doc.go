// Package runtime is what a function written in Go is given.
//
//	package main
//
//	import "github.com/watzon/alyx/pkg/runtime"
//
//	func Handler(ctx *runtime.Context) (any, error) {
//		return map[string]string{"message": "Hello, " + ctx.Text("name")}, nil
//	}
//
// The server builds the function with this package, which it brings along: nothing is downloaded. The program holds
// one version of one function, answers many calls at the same time, and ends with its connection to the server.
package runtime
