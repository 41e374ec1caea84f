package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// JSON answers a request with a value as JSON, and a status.
func JSON(w http.ResponseWriter, status int, value any) {
	body, err := encode(value)
	if err != nil {
		status = http.StatusInternalServerError
		body, _ = encode(map[string]string{"error": "the reply cannot be written as JSON: " + err.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// reply keeps what a handler that was written for a web server answers.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
	most   int
}

func (r *reply) Header() http.Header {
	return r.header
}

func (r *reply) WriteHeader(status int) {
	// Those below 200 announce another one.
	if r.status == 0 && status >= 200 {
		r.status = status
	}
}

func (r *reply) Write(part []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.body.Len()+len(part) > r.most {
		refused := tooLarge(r.most)
		r.body.Reset()
		r.most = -1
		return 0, refused
	}
	return r.body.Write(part)
}

func served(serve http.HandlerFunc, ctx *Context, most int) ([]byte, error) {
	input := ctx.call.body
	if len(input) == 0 || string(input) == "null" {
		input = []byte("{}")
	}
	request := (&http.Request{
		Method:        http.MethodPost,
		URL:           &url.URL{Path: "/api/functions/" + ctx.FunctionName},
		RequestURI:    "/api/functions/" + ctx.FunctionName,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {ctx.RequestID}},
		Body:          io.NopCloser(bytes.NewReader(input)),
		ContentLength: int64(len(input)),
	}).WithContext(ctx)
	if ctx.TraceParent != "" {
		request.Header.Set("Traceparent", ctx.TraceParent)
	}
	kept := &reply{header: http.Header{}, most: most}
	serve(kept, request)
	if kept.most < 0 {
		return nil, tooLarge(most)
	}
	body := bytes.TrimSpace(kept.body.Bytes())
	if kept.status >= 400 {
		return nil, refusal(kept.status, body)
	}
	if len(body) == 0 {
		return []byte("null"), nil
	}
	if json.Valid(body) {
		return body, nil
	}
	// What is not JSON is text.
	return encode(kept.body.String())
}

// refusal is a reply with a status from 400 on: an error with that status, its members kept.
func refusal(status int, body []byte) error {
	refused := NewError("FUNCTION_ERROR", fmt.Sprintf("the function answered with status %d", status))
	refused.Status = status
	if status > 599 {
		refused.Status = 500
	}
	var told map[string]any
	if json.Unmarshal(body, &told) != nil || told == nil {
		var text string
		if json.Unmarshal(body, &text) != nil {
			text = string(body)
		}
		if text = strings.TrimSpace(text); text != "" && text != "null" {
			refused.Message = text
		}
		return refused
	}
	inner := told
	if nested, is := told["error"].(map[string]any); is {
		inner = nested
	}
	if code, is := inner["code"].(string); is {
		refused.Code = code
	}
	for _, words := range []any{inner["message"], inner["error"], told["message"]} {
		if text, is := words.(string); is {
			refused.Message = text
			break
		}
	}
	for name, value := range inner {
		if name != "code" && name != "message" && name != "error" {
			refused.With(name, value)
		}
	}
	return refused
}
