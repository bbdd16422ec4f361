import heapq

GRAPH = {
    "s": {"t": 10, "y": 5},
    "t": {"x": 1, "y": 2},
    "x": {"z": 4},
    "y": {"t": 3, "x": 9, "z": 2},
    "z": {"s": 7, "x": 6},
}


def shortest(graph, start):
    distances, heap = {}, [(0, start)]
    while heap:
        distance, node = heapq.heappop(heap)
        if node in distances:
            continue
        distances[node] = distance
        for neighbour, length in graph[node].items():
            heapq.heappush(heap, (distance + length, neighbour))
    return distances


for node, distance in sorted(shortest(GRAPH, "s").items()):
    print(node, distance)
