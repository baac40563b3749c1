class LengthGroupedBatches:
    def __init__(self, lengths, batch_size, *, seed):
        self.n = len(lengths)
        self.b = batch_size

    def __iter__(self):
        for i in range(0, self.n, self.b):
            yield list(range(i, min(self.n, i + self.b)))

    def __len__(self):
        return -(-self.n // self.b)
