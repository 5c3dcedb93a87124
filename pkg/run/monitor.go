package run

func monitorMain() {}
