package hashes

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers are n bytes that look random and are the same for a seed.
func numbers(n int, seed uint64) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	c.Read(b)
	return b
}

func check(t testing.TB, s *Stream, data []byte) {
	t.Helper()
	if got, want := s.Sum(nil), sha256.Sum256(data); !bytes.Equal(got, want[:]) {
		t.Errorf("%d bytes: %x, want %x", len(data), got, want)
	}
}

func needPair(t testing.TB) {
	if !canPair() {
		t.Skip("this processor, or this build, cannot hash two streams in turns (AVX and the SHA extensions)")
	}
}

// Both of a worker's seats, with every length against every other.
func TestTwoStreamsHashAsOne(t *testing.T) {
	needPair(t)
	p, q := numbers(300, 1), numbers(300, 2)
	for n := range p {
		for _, m := range []int{0, 1, 63, 64, 65, 127, 128, 129, 200, 255, 256, 257, n} {
			var h hall
			a, b := seatOf(h.stream(), p[:n]), seatOf(h.stream(), q[:m])
			together(a, b)
			check(t, a.Stream, p[:n])
			check(t, b.Stream, q[:m])
		}
	}
}

// The second pieces begin within a block, at every place in it.
func TestTwoStreamsGoOnWithinABlock(t *testing.T) {
	needPair(t)
	p, q := numbers(2000, 1), numbers(2000, 2)
	for i := range 130 {
		for _, j := range []int{0, 1, 17, 63, 64, 65, i} {
			var h hall
			s, u := h.stream(), h.stream()
			for _, cut := range [][4]int{{0, i, 0, j}, {i, 1000, j, 1500}, {1000, 2000, 1500, 2000}} {
				together(seatOf(s, p[cut[0]:cut[1]]), seatOf(u, q[cut[2]:cut[3]]))
			}
			check(t, s, p)
			check(t, u, q)
		}
	}
}

func seatOf(s *Stream, data []byte) *seat { return &seat{Stream: s, left: data} }

func together(a, b *seat) {
	for len(a.left) > 0 && len(b.left) > 0 {
		hashSome(a, b)
	}
	a.alone(len(a.left))
	b.alone(len(b.left))
}

// lender counts what it gets back.
type lender struct{ back *atomic.Int32 }

func (l lender) Release() { l.back.Add(1) }

func TestManyStreamsAtOnce(t *testing.T) {
	for _, procs := range []int{1, 2, 4, 8} {
		t.Run(fmt.Sprintf("%d processors", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			var all sync.WaitGroup
			for i := range 9 {
				all.Go(func() {
					data := numbers(3<<20+i, uint64(i))
					random := rand.New(rand.NewPCG(uint64(i), 0))
					s := New()
					var back atomic.Int32
					added := int32(0)
					for rest := data; len(rest) > 0; {
						n := min(len(rest), random.IntN(100_000))
						if random.IntN(10) == 0 {
							s.Write(rest[:n])
						} else {
							s.Add(rest[:n], lender{&back})
							added++
						}
						rest = rest[n:]
					}
					check(t, s, data)
					if got := back.Load(); got != added {
						t.Errorf("%d pieces of %d were given back", got, added)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestAStreamCanStartOver(t *testing.T) {
	s := New()
	s.Add(numbers(1000, 1), nil)
	s.Reset()
	s.Add([]byte("abc"), nil)
	check(t, s, []byte("abc"))
	s.Write([]byte("def")) // after Sum
	check(t, s, []byte("abcdef"))
}

func TestAPieceWaitsForCompanyWhereProcessorsAreFew(t *testing.T) {
	needPair(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	var h hall
	working := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.workers > 0
	}
	s, u := h.stream(), h.stream()
	hold := make(blocked)
	for range patience - 1 {
		if s.Add([]byte("x"), nil); working() {
			t.Fatal("a stream goes without company")
		}
	}
	if u.Add([]byte("y"), hold); !working() {
		t.Fatal("two streams do not go together")
	}
	hold <- struct{}{}
	check(t, u, []byte("y"))
	check(t, s, []byte("xx")) // Sum waits for none
	for range patience {
		s.Add([]byte("z"), hold)
	}
	if !working() {
		t.Fatalf("%d pieces wait for company", patience)
	}
	close(hold)
	check(t, s, []byte("xxzzz"))
}

// blocked is an owner that lets no worker go on until it is sent something.
type blocked chan struct{}

func (b blocked) Release() { <-b }

func TestOnlySoManyPiecesWait(t *testing.T) {
	s := New()
	hold := make(blocked)
	for range depth {
		s.Add([]byte("x"), hold)
	}
	added := make(chan struct{})
	go func() {
		s.Add([]byte("y"), nil)
		close(added)
	}()
	runtime.Gosched()
	select {
	case <-added:
		t.Fatalf("%d pieces wait", depth+1)
	default:
	}
	close(hold)
	<-added
	check(t, s, []byte("xxxxy"))
}

// A paired stream is hashed as the standard library does, however both are cut.
func FuzzPair(f *testing.F) {
	f.Add([]byte("abc"), []byte(""), uint16(1), uint16(0))
	f.Add(numbers(200, 1), numbers(300, 2), uint16(64), uint16(65))
	f.Fuzz(func(t *testing.T, p, q []byte, i, j uint16) {
		needPair(t)
		ci, cj := int(i)%(len(p)+1), int(j)%(len(q)+1)
		var h hall
		s, u := h.stream(), h.stream()
		together(seatOf(s, p[:ci]), seatOf(u, q[:cj]))
		together(seatOf(s, p[ci:]), seatOf(u, q[cj:]))
		check(t, s, p)
		check(t, u, q)
	})
}

// Bytes of both streams a second, by one thread, against one stream alone.
func BenchmarkStreams(b *testing.B) {
	p, q := numbers(256<<10, 1), numbers(256<<10, 2)
	var h hall
	s, u := h.stream(), h.stream()
	b.Run("alone", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		b.ReportAllocs()
		for b.Loop() {
			t := seat{Stream: s, left: p}
			t.alone(len(p))
		}
	})
	b.Run("paired", func(b *testing.B) {
		needPair(b)
		b.SetBytes(int64(2 * len(p)))
		b.ReportAllocs()
		for b.Loop() {
			t, v := seat{Stream: s, left: p}, seat{Stream: u, left: q}
			for len(t.left) > 0 {
				hashSome(&t, &v)
			}
		}
	})
}
