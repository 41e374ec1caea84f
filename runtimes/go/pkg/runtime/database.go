package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"time"
)

const (
	maxOpenCalls  = 256
	deletedAtOnce = 500
	// Times that a transaction's work is run before the conflict is returned, and the pauses between.
	attempts     = 10
	firstPause   = 2 * time.Millisecond
	longestPause = 100 * time.Millisecond
)

// Doc is a document: its fields by name.
type Doc = map[string]any

// Query says which documents, in which order, and how much of them; as in the REST API.
type Query struct {
	Filter any    `json:"filter,omitempty"`
	Sort   any    `json:"sort,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	Offset int    `json:"offset,omitempty"`
	After  string `json:"after,omitempty"`
	Fields any    `json:"fields,omitempty"`
	Expand any    `json:"expand,omitempty"`
	Search any    `json:"search,omitempty"`
	// Count is whether to count all that match, as it does where it is nil.
	Count *bool `json:"count,omitempty"`
}

// Page is what a list gives.
type Page struct {
	Docs []Doc `json:"docs"`
	// Total counts all that match; 0 where the query asked not to count.
	Total  int64 `json:"total"`
	Limit  int   `json:"limit"`
	Offset int   `json:"offset"`
	// Next goes into Query.After for the next page; empty on the last.
	Next string `json:"next"`
}

// DB is the database.
type DB struct {
	call *call
	// tx is the transaction that all calls are part of, where there is one.
	tx json.RawMessage
}

// Collection is the collection of that name.
func (db *DB) Collection(name string) *Collection {
	return &Collection{db, name}
}

// Transaction runs `work`: its writes are carried out together when it returns nil, if nothing that it has read was
// changed meanwhile. If something was, `work` runs again from the start, up to ten times.
func (db *DB) Transaction(work func(tx *DB) error) error {
	if db.tx != nil {
		return errors.New("a transaction has no transactions of its own: use the one that is open")
	}
	for attempt := 1; ; attempt++ {
		err := db.once(work)
		var told *Error
		if err == nil || attempt == attempts || !errors.As(err, &told) || told.Code != "TRANSACTION_CONFLICT" {
			return err
		}
		longest := firstPause << attempt
		if longest > longestPause {
			longest = longestPause
		}
		select {
		case <-time.After(time.Duration(rand.Int63n(int64(longest)))):
		case <-db.call.overdue:
			return errDeadline
		}
	}
}

func (db *DB) once(work func(tx *DB) error) (err error) {
	var begun struct {
		Tx json.RawMessage `json:"tx"`
	}
	if err := db.ask("begin", "", struct{}{}, &begun); err != nil {
		return err
	}
	over := map[string]any{"tx": begun.Tx}
	committed := false
	defer func() {
		if !committed {
			// What went wrong is what matters, whether or not there is anything left to roll back.
			_ = db.ask("rollback", "", over, nil)
		}
	}()
	if err := work(&DB{db.call, begun.Tx}); err != nil {
		return err
	}
	committed = true
	return db.ask("commit", "", over, nil)
}

func (db *DB) ask(op, collection string, arguments, into any) error {
	if db.tx != nil {
		arguments = map[string]any{"tx": db.tx, "op": op, "args": arguments}
		op = "within"
	}
	body, err := db.call.worker.calls.ask(db.call, op, collection, arguments)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// Collection is one collection of documents.
type Collection struct {
	db   *DB
	name string
}

// List gives a page of the documents that the query selects.
func (c *Collection) List(query Query) (*Page, error) {
	page := &Page{}
	if err := c.db.ask("list", c.name, query, page); err != nil {
		return nil, err
	}
	return page, nil
}

// Aggregate counts and sums up, by `select`, `groupBy`, `filter` and the rest of the REST API's words.
func (c *Collection) Aggregate(question Doc) (Doc, error) {
	var found Doc
	err := c.db.ask("aggregate", c.name, fields(question), &found)
	return found, err
}

// Get gives the document of that id; nil where there is none.
func (c *Collection) Get(id any) (Doc, error) {
	if id == nil {
		return nil, fmt.Errorf("ctx.DB.Collection(%q).Get: the id is nil", c.name)
	}
	return c.document("get", Doc{"id": id})
}

// FindOne gives the first document that the query selects; nil where there is none.
func (c *Collection) FindOne(query Query) (Doc, error) {
	query.Limit = 1
	page, err := c.List(query)
	if err != nil || len(page.Docs) == 0 {
		return nil, err
	}
	return page.Docs[0], nil
}

// Create adds a document and gives it with what the database has filled in. `data` is a Doc or a struct.
func (c *Collection) Create(data any) (Doc, error) {
	return c.document("create", Doc{"data": data})
}

// Update changes the named fields of a document and gives all of it.
func (c *Collection) Update(id, data any) (Doc, error) {
	if id == nil {
		return nil, fmt.Errorf("ctx.DB.Collection(%q).Update: the id is nil", c.name)
	}
	return c.document("update", Doc{"id": id, "data": data})
}

// Upsert creates a document, or changes the one of the same key.
func (c *Collection) Upsert(data any) (Doc, error) {
	return c.document("upsert", Doc{"data": data})
}

// Delete removes a document, and says whether there was one.
func (c *Collection) Delete(id any) (bool, error) {
	if id == nil {
		return false, fmt.Errorf("ctx.DB.Collection(%q).Delete: the id is nil", c.name)
	}
	var told struct {
		Deleted bool `json:"deleted"`
	}
	err := c.db.ask("delete", c.name, Doc{"id": id}, &told)
	return told.Deleted, err
}

// DeleteMany removes what a filter selects, in steps of 500 that are a transaction each, and says how many.
func (c *Collection) DeleteMany(filter any) (int, error) {
	deleted := 0
	for {
		step := 0
		work := func(tx *DB) (err error) {
			step, err = tx.Collection(c.name).deleteStep(filter)
			return err
		}
		var err error
		if c.db.tx != nil {
			err = work(c.db)
		} else {
			err = c.db.Transaction(work)
		}
		if err != nil {
			return deleted, err
		}
		deleted += step
		if step < deletedAtOnce {
			return deleted, nil
		}
	}
}

func (c *Collection) deleteStep(filter any) (int, error) {
	question := Doc{"limit": deletedAtOnce, "fields": []string{}}
	if filter != nil {
		question["filter"] = filter
	}
	var page Page
	if err := c.db.ask("list", c.name, question, &page); err != nil {
		return 0, err
	}
	for _, doc := range page.Docs {
		// Without further fields, a document is its key.
		for _, id := range doc {
			if _, err := c.Delete(id); err != nil {
				return 0, err
			}
		}
	}
	return len(page.Docs), nil
}

func (c *Collection) document(op string, arguments Doc) (Doc, error) {
	var found Doc
	err := c.db.ask(op, c.name, arguments, &found)
	return found, err
}

func fields(given Doc) Doc {
	if given == nil {
		return Doc{}
	}
	return given
}

// openCalls are the calls of ctx.DB under way, of all invocations.
type openCalls struct {
	mutex   sync.Mutex
	next    uint64
	waiting map[uint64]chan answer
	places  chan struct{}
}

type answer struct {
	body []byte
	err  error
}

func (o *openCalls) start() {
	o.waiting = map[uint64]chan answer{}
	o.places = make(chan struct{}, maxOpenCalls)
}

type callHead struct {
	ID         uint64 `json:"id"`
	Op         string `json:"op"`
	Collection string `json:"collection"`
}

func (o *openCalls) ask(one *call, op, collection string, arguments any) ([]byte, error) {
	if one.ended.Load() {
		return nil, NewError("INVOCATION_ENDED",
			"ctx.DB was used after its call had ended; wait for every goroutine before returning").WithStatus(409)
	}
	body, err := encode(arguments)
	if err != nil {
		return nil, fmt.Errorf("ctx.DB.Collection(%q): %s: %w", collection, op, err)
	}
	select {
	case o.places <- struct{}{}:
	case <-one.overdue:
		return nil, errDeadline
	}
	defer func() { <-o.places }()
	answered := make(chan answer, 1)
	o.mutex.Lock()
	o.next++
	id := o.next
	o.waiting[id] = answered
	o.mutex.Unlock()
	meta, err := json.Marshal(callHead{id, op, collection})
	if err != nil {
		return nil, err
	}
	one.worker.link.send(frameCall, one.stream, meta, body)
	select {
	case told := <-answered:
		return told.body, told.err
	case <-one.overdue:
		o.mutex.Lock()
		delete(o.waiting, id)
		o.mutex.Unlock()
		return nil, errDeadline
	}
}

func (o *openCalls) settle(one frame) {
	var told struct {
		ID    uint64 `json:"id"`
		Error *struct {
			Code       string          `json:"code"`
			Status     int             `json:"status"`
			Message    string          `json:"message"`
			Field      string          `json:"field"`
			Details    json.RawMessage `json:"details"`
			RetryAfter int             `json:"retryAfter"`
		} `json:"error"`
	}
	if json.Unmarshal(one.meta, &told) != nil {
		return
	}
	o.mutex.Lock()
	waiting := o.waiting[told.ID]
	delete(o.waiting, told.ID)
	o.mutex.Unlock()
	if waiting == nil {
		return
	}
	if told.Error == nil {
		waiting <- answer{body: one.body}
		return
	}
	refused := NewError(told.Error.Code, told.Error.Message).WithStatus(told.Error.Status)
	if told.Error.Field != "" {
		refused.With("field", told.Error.Field)
	}
	if told.Error.Details != nil {
		refused.With("details", told.Error.Details)
	}
	if told.Error.RetryAfter != 0 {
		refused.With("retryAfter", told.Error.RetryAfter)
	}
	waiting <- answer{err: refused}
}
