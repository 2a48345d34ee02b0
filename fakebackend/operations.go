package fakebackend

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// operation is one operation of AWS IoT: an entry of the one table of them. Each entry stands in the file that models
// the operation. Everything that is to be known of it follows from the entry: its route, how a request is decoded and
// held against the API model, its pages, its answer, the name under which faults are set, and its row in
// docs/coverage.md.
type operation struct {
	*restjson.Operation
	output reflect.Type
	list   string // the member that holds the items of a page; "" when the operation does not list
	reads  bool   // it changes nothing
	act    func(b *account, now time.Time, in any) (out any, refusal *task.Error)
}

// operationOf makes an entry from AWS's name, the method with the path, and the function that does it. The function
// runs with the turn held, on an input that keeps the model's constraints. Its input struct has the tags of package
// restjson.
func operationOf[I, O any](name, request string, act func(b *account, now time.Time, in *I) (*O, *task.Error)) *operation {
	return &operation{
		Operation: restjson.New(name, request, reflect.TypeFor[I](), shapes), output: reflect.TypeFor[O](),
		reads: strings.HasPrefix(name, "Describe") || strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "Test"),
		act: func(b *account, now time.Time, in any) (any, *task.Error) {
			out, err := act(b, now, in.(*I))
			return out, err
		},
	}
}

// nothing is the output of an operation that answers with an empty object.
type nothing struct{}

// listOf makes the entry of an operation that lists in pages. The function returns the items of one page, which the
// answer has as the given member.
func listOf[I paged, T any](name, request, member string, act func(b *account, in I, p *page) ([]T, *task.Error)) *operation {
	input := reflect.TypeFor[I]().Elem()
	return &operation{
		Operation: restjson.New(name, request, input, shapes), output: reflect.TypeFor[listOutput[T]](), list: member, reads: true,
		act: func(b *account, now time.Time, in any) (any, *task.Error) {
			list := in.(I)
			p, err := pageFor(b, now, list)
			if err != nil {
				return nil, err
			}
			items, err := act(b, list, p)
			if err != nil {
				return nil, err
			}
			_, next := list.tokenNames()
			return &listOutput[T]{member, append([]T{}, items...), next, p.next, p.beside}, nil
		},
	}
}

// listOutput is the answer of an operation that lists.
type listOutput[T any] struct {
	Member string // that holds the items
	Items  []T
	Token  string // the member that holds Next
	Next   string // where the next page begins; "" after the last
	Beside map[string]any
}

// Members returns the members of the answer.
func (l *listOutput[T]) Members() map[string]any {
	m := map[string]any{l.Member: l.Items}
	if l.Next != "" {
		m[l.Token] = l.Next
	}
	maps.Copy(m, l.Beside)
	return m
}

// operations is the table of AWS IoT's operations, sorted by name.
var operations = slices.SortedFunc(slices.Values(slices.Concat(
	attachmentOperations, authorizationOperations, billingGroupOperations, caOperations, certificateOperations, endpointOperations,
	policyOperations, provisioningClaimOperations, provisioningTemplateOperations, registerThingOperations, reportOperations,
	startTaskOperations, tagOperations, taskOperations, thingGroupOperations, thingOperations, thingTypeOperations,
)), func(x, y *operation) int { return strings.Compare(x.Name, y.Name) })

// operationNamed finds an operation; nil if there is none of that name.
func operationNamed(name string) *operation {
	i, ok := slices.BinarySearchFunc(operations, name, func(o *operation, name string) int { return strings.Compare(o.Name, name) })
	if !ok {
		return nil
	}
	return operations[i]
}

// call does an operation as a request would, but without encoding and decoding.
func call[O any](ctx context.Context, b *account, name string, in any) (*O, error) {
	out, err := operationNamed(name).do(ctx, b, in, nil)
	if err != nil {
		return nil, err
	}
	return out.(*O), nil
}

// each calls an operation that lists, page after page, and yields the items. An error is yielded last.
func each[T any](ctx context.Context, b *account, name string, in paged) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			out, err := call[listOutput[T]](ctx, b, name, in)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, item := range out.Items {
				if !yield(item, nil) {
					return
				}
			}
			if out.Next == "" {
				return
			}
			in.goOn(out.Next)
		}
	}
}

// all returns the items of every page.
func all[T any](ctx context.Context, b *account, name string, in paged) (items []T, err error) {
	for item, err := range each[T](ctx, b, name, in) {
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// do answers one request: the faults that were set for it, the model's constraints, then what it does. The string
// members in empty are present; others that are "" were left out.
func (o *operation) do(ctx context.Context, b *account, in any, empty restjson.Empty) (any, error) {
	return b.answer(ctx, o.Name, o.subject(in), func() string { return o.Check(in, empty) }, func(now time.Time) (any, *task.Error) {
		if o.reads {
			b.reads()
		}
		return o.act(b, now, in)
	})
}

// subject is the name of the thing that a request is about, for faults to match; "" when it is about none.
func (o *operation) subject(in any) string {
	if r, ok := in.(*registerThingInput); ok {
		return r.Parameters["ThingName"]
	}
	if name, ok := o.Member(in, "thingName"); ok && name.String() != "" {
		return name.String()
	}
	if arn, ok := o.Member(in, "thingArn"); ok {
		return task.ResourceName(arn.String())
	}
	return ""
}

// answer answers a request of any kind. check returns what is wrong with it, "" if nothing is; act runs with the turn
// held.
func (b *account) answer(ctx context.Context, op, thing string, check func() string, act func(now time.Time) (any, *task.Error)) (any, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx, op)
	}
	strike, err := b.faults.request(ctx, op, thing)
	if err != nil {
		return nil, err
	}
	out, err := b.take(ctx, op, check, act)
	if err := strike.loses(op, err); err != nil {
		return nil, err
	}
	return out, nil
}

// take answers a request that reached the service.
func (b *account) take(ctx context.Context, op string, check func() string, act func(now time.Time) (any, *task.Error)) (any, error) {
	refusal := violation(check())
	if refusal == nil {
		now, err := b.enter(ctx, op)
		if err != nil {
			return nil, err
		}
		defer b.leave()
		var out any
		if out, refusal = act(now); refusal == nil {
			return out, nil
		}
	}
	refusal.Op = op
	return nil, refusal
}

// orZero lets a nil input stand for an empty one, so that bad calls are refused and do not panic.
func orZero[T any](in *T) *T {
	if in == nil {
		return new(T)
	}
	return in
}
