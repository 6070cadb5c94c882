import java.io.File;
import org.HdrHistogram.EncodableHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramLogReader;

/** Prints what a histogram log comes to, by the reader of HdrHistogram itself. */
class Read {
    public static void main(String[] args) throws Exception {
        Histogram all = new Histogram(3);
        HistogramLogReader reader = new HistogramLogReader(new File(args[0]));
        double first = 0;
        for (EncodableHistogram next; (next = reader.nextIntervalHistogram()) != null; ) {
            first = first == 0 ? next.getStartTimeStamp() / 1000.0 : first;
            all.add((Histogram) next);
        }
        System.out.printf("%d %d %d %d %d %.0f%n", all.getTotalCount(), all.getMinValue(),
                all.getValueAtPercentile(50), all.getValueAtPercentile(99), all.getMaxValue(), first);
    }
}
