package inflate

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"
	"unsafe"
)

// long is contents of many blocks, and where each dynamic block but the last
// begins: in the input by bits, in the output by bytes.
func long(t *testing.T) (data, z []byte, blocks map[int64]int) {
	t.Helper()
	s := samples()
	data = bytes.Join([][]byte{s["text"], s["skewed"], s["periods"], s["mixed"]}, nil)
	z = deflate(t, data, 6)
	blocks = map[int64]int{}
	var in Input
	var d Decoder
	in.Reset(bytes.NewReader(z))
	d.Reset(&in)
	window := make([]byte, len(data)+Slack)
	pos := 0
	for {
		d.StopAt(d.Bit() + 1)
		var err error
		if pos, err = d.Decode(window, pos); err == io.EOF {
			break
		} else if err != ErrStop || !d.BetweenBlocks() {
			t.Fatal(err)
		}
		blocks[d.Bit()] = pos
	}
	if !bytes.Equal(window[:pos], data) || len(blocks) < 10 {
		t.Fatalf("%d blocks", len(blocks))
	}
	return data, z, blocks
}

func TestFindMissesNoBlock(t *testing.T) {
	_, z, blocks := long(t)
	var d Decoder
	found := map[int64]bool{}
	for from := 0; ; {
		at := d.Find(z, from, len(z))
		if at < 0 {
			break
		}
		found[int64(at)] = true
		from = at/8 + 1
	}
	for at := range blocks {
		if !found[at] && at/8 < int64(len(z)-findMargin) {
			t.Errorf("the block at bit %d was not found", at)
		}
	}
	if len(found) > len(blocks)+2 {
		t.Errorf("%d were found, there are %d", len(found), len(blocks))
	}
}

func TestMarkedOutputFilledInIsTheOutput(t *testing.T) {
	data, z, blocks := long(t)
	for _, kind := range []loopKind{bestLoop, carefulLoop} {
		for at, start := range blocks {
			var in Input
			in.Reset(bytes.NewReader(z[at/8:]))
			d := Decoder{using: kind}
			if err := d.ResetAt(&in, int(at%8)); err != nil {
				t.Fatal(err)
			}
			out := append(Markers(), make([]uint16, len(data)-start+Slack)...)
			end, err := d.DecodeMarked(out, History)
			if err != io.EOF || end-History != len(data)-start {
				t.Fatalf("from bit %d: %d symbols, %v; want %d", at, end-History, err, len(data)-start)
			}
			if start < History {
				continue
			}
			got := make([]byte, end-History)
			Fill(got, out[History:end], data[start-History:start])
			if !bytes.Equal(got, data[start:]) {
				t.Errorf("from bit %d: other output", at)
			}
		}
	}
}

func TestMarkedOutputGoesOnAsBytes(t *testing.T) {
	data, z, blocks := long(t)
	for at, start := range blocks {
		var in Input
		in.Reset(bytes.NewReader(z[at/8:]))
		var d Decoder
		if err := d.ResetAt(&in, int(at%8)); err != nil {
			t.Fatal(err)
		}
		// As far as the window goes, and then to the end with the right history.
		out := append(Markers(), make([]uint16, 70_000)...)
		end, err := d.DecodeMarked(out, History)
		if err == io.EOF || start < History {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		window := make([]byte, History+len(data)+Slack)
		Fill(window[:History], out[end-History:end], data[start-History:start])
		stop, err := d.Decode(window, History)
		if want := data[start+end-History:]; err != io.EOF || !bytes.Equal(window[History:stop], want) {
			t.Errorf("from bit %d: %d bytes, %v; want %d", at, stop-History, err, len(want))
		}
	}
}

// marked is what a loop makes of a stream that has History unknown bytes before it.
func marked(kind loopKind, z []byte, out []uint16) (symbols []uint16, bit int64, err error) {
	in := Input{view: z, err: io.EOF}
	d := Decoder{using: kind}
	if err := d.ResetAt(&in, 0); err != nil {
		return nil, 0, err
	}
	copy(out, Markers())
	end, err := d.DecodeMarked(out, History)
	return out[History:end], d.Bit(), err
}

// The marked loop makes what the careful one makes of any stream, however much
// room there is, and touches nothing outside.
func FuzzMarked(f *testing.F) {
	for _, v := range vectors {
		f.Add(stream(v.in), uint16(300))
	}
	for _, data := range samples() {
		f.Add(deflate(f, data[:min(len(data), 3000)], 9), uint16(5000))
		f.Add(deflate(f, data[:min(len(data), 3000)], 1), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, z []byte, room uint16) {
		input := guarded(t, len(z), false)
		copy(input, z)
		memory := guarded(t, 2*(History+int(room)), false)
		out := unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(memory))), len(memory)/2)
		want, wantBit, wantErr := marked(carefulLoop, z, make([]uint16, len(out)))
		got, bit, err := marked(bestLoop, input, out)
		if slices.Equal(got, want) && bit == wantBit && fmt.Sprint(err) == fmt.Sprint(wantErr) {
			return
		}
		// They may stop at different places in the last of the room, and there alone.
		n := min(len(got), len(want))
		if err != nil && wantErr != nil || !slices.Equal(got[:n], want[:n]) || len(out)-History-n >= 2*Slack {
			t.Errorf("%d symbols to bit %d, %v; want %d, %d, %v", len(got), bit, err, len(want), wantBit, wantErr)
		}
	})
}
