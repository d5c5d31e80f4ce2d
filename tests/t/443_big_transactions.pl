# Transactions much larger than a frame, and with very many subtransactions: the relay's memory stays small, only what
# was committed arrives, and all of it at once.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $ROWS = $ENV{TIDE_ROWS} // 600_000;
my $LIMIT = 180 + $ROWS / 10_000;    # seconds that it may take
my $LATE = 15;    # seconds that what has nothing to do with it may come later
my $MEMORY = 128 * 1024;    # KiB that a relay may take

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)], transport => $ENV{TIDE_TRANSPORT} // 'direct', conf => "max_wal_size = 4GB\nshared_buffers = 256MB\n");
$mesh->sql_all('CREATE TABLE big (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY, v text)');
$mesh->class('shop');
$mesh->add_table($_, 'shop') for qw(big small);
$mesh->link('eu', $_) for qw(us ap);
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', $_), "eu takes rows from $_") for qw(us ap);

sub memory_ok
{
	my ($what) = @_;
	for my $side ($mesh->sides)
	{
		my ($now, $most) = $mesh->relay($side)->memory_kib;
		cmp_ok($most, '<', $MEMORY, sprintf '%s: the relay of %s never took more than %d MiB (now %d, at most %d)',
			$what, $side, $MEMORY / 1024, $now / 1024, $most / 1024);
	}
	return;
}

# All or nothing: whoever looks meanwhile sees none of it, or all.  The relay's other link is as late as before.
sub watch
{
	my ($wanted) = @_;
	my %seen;
	my $latest = 0;
	my $took = wait_until(
		sub {
			my $count = $mesh->sql('eu', 'SELECT count(*) FROM big');
			$seen{$count}++;
			my $late = $mesh->sql('eu', q{SELECT extract(epoch FROM lag) FROM tide.links WHERE region = 'ap-east'});
			$latest = $late if $late > $latest;
			return $count == $wanted;
		},
		$LIMIT,
		"$wanted rows");
	cmp_ok($latest, '<', $LATE, sprintf 'another link of the same relay was %.1f s late at most', $latest);
	return ($took, join ' ', sort { $a <=> $b } keys %seen);
}

my $filler = 'x' x 150;
$mesh->sql('us', "INSERT INTO big SELECT n, '$filler' || n FROM generate_series(1, $ROWS) n");
my ($took, $seen) = watch($ROWS);
ok(defined $took, sprintf 'one transaction of %d rows arrives (%.1f s)', $ROWS, $took // -1);
is($seen =~ s/^0 //r, $ROWS, '... at once');
memory_ok('an INSERT');
$mesh->same_tables('... and equal', ['big'], sides => [qw(us eu)]);

# Killed in the middle: it begins again, and again arrives whole.
$mesh->sql('us', "UPDATE big SET v = v || '!' WHERE id % 2 = 0; INSERT INTO small VALUES (1, 'behind it')");
ok(defined wait_until(
		sub { $mesh->sql('eu', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND query ~ 'tide.apply' AND backend_xid IS NOT NULL}) > 0 },
		$LIMIT, 'the transaction to be in the middle'),
	'a large transaction is in the middle');
$mesh->relay('eu')->kill9;
is($mesh->sql('eu', q{SELECT count(*) FROM big WHERE v LIKE '%!'}), 0, '... and killed there: nothing of it is here');
$mesh->start_relay('eu');
$mesh->settle_one('us', 'eu', $LIMIT);
$mesh->same_tables('... it comes again, whole', [qw(big small)], sides => [qw(us eu)]);
memory_ok('an UPDATE');

# Taken back: nothing crosses, and it does not take the link's time.
$mesh->sql('us', "BEGIN; DELETE FROM big; ROLLBACK");
$mesh->sql('us', <<'END');
DO $$
BEGIN
	FOR i IN 1 .. 100000 LOOP
		BEGIN
			INSERT INTO small VALUES (i + 10, 'sub');
			IF i % 2 = 0 THEN
				RAISE EXCEPTION 'back';
			END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END$$;
END
$mesh->settle_one('us', 'eu', $LIMIT);
$mesh->same_tables('subtransactions: what was committed of them, and nothing else', [qw(big small)], sides => [qw(us eu)]);

# Deletes, and many large values.
$mesh->sql('us', 'DELETE FROM big WHERE id % 3 <> 0');
$mesh->sql('us', q{INSERT INTO small SELECT 1000000 + n, repeat(md5(n::text), 30000) FROM generate_series(1, 200) n});
$mesh->settle_one('us', 'eu', $LIMIT);
$mesh->same_tables('deletes, and values of a megabyte', [qw(big small)], sides => [qw(us eu)]);
memory_ok('values of a megabyte');
$mesh->nothing_special('nothing was parked, nothing copied twice');
is_deeply($mesh->stop, { us => 0, eu => 0, ap => 0 }, 'the relays end with status 0');
done_testing();
